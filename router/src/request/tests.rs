use super::*;
use crate::cluster::tests::request;

/// A request with a prompt of so many tokens, hashed.
fn hashed(prompt_tokens: u32) -> AnswerRequest {
    let mut request = request(0);
    request.prompt.tokens = (0..prompt_tokens).collect();
    let hashes = block_hashes(request.prompt.seed, &request.prompt.tokens, 16);
    request.prompt.hashes = hashes.into();
    request.hashes = Arc::clone(&request.prompt.hashes);
    request.limits.max_tokens = 100;
    request
}

#[test]
fn however_often_an_answer_is_interrupted_its_blocks_are_hashed_as_if_they_were_one_prompt() {
    for prompt_tokens in [1, 15, 16, 17, 40] {
        let mut request = hashed(prompt_tokens);
        for count in [1, 14, 1, 0, 33] {
            let tokens: Vec<_> = (0..count).map(|i| 1_000 + i).collect();
            request.resume(&tokens);
            let given = [&request.prompt.tokens[..], &request.output].concat();
            assert_eq!(request.given_tokens() as usize, given.len());
            assert_eq!(request.hashes[..], block_hashes(request.prompt.seed, &given, 16));
        }
        assert_eq!(request.prompt.tokens.len(), prompt_tokens as usize);
    }
}

#[test]
fn an_answer_is_complete_with_its_last_token_whoever_says_so() {
    let mut request = hashed(5);
    (request.limits.max_tokens, request.limits.stop_token_ids) = (3, vec![7]);
    assert_eq!(request.is_complete(), None);
    request.resume(&[1, 2]);
    assert_eq!(request.is_complete(), None);
    let mut long = request.clone();
    long.resume(&[3]);
    assert_eq!(long.is_complete(), Some(FinishReason::Length));
    request.resume(&[7]);
    assert_eq!(request.is_complete(), Some(FinishReason::Stop));
    request.limits.ignore_eos = true;
    assert_eq!(request.is_complete(), Some(FinishReason::Length));
}
