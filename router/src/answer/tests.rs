use super::*;
use estafette_gguf::{GgufFile, tiny::tiny_llama};
use estafette_tokenizer::Tokenizer;

fn text(stop: &[&str]) -> (Arc<Tokenizer>, AnswerText) {
    let file = GgufFile::from_bytes(tiny_llama(1)).unwrap();
    let tokenizer = Arc::new(Tokenizer::from_gguf(&file).unwrap());
    let text = AnswerText {
        detokenizer: Detokenizer::new(Arc::clone(&tokenizer), true),
        stop: StopMatcher::new(stop.iter().map(|&s| s.to_owned()).collect()),
        limits: Limits { stop_token_ids: tokenizer.stop_token_ids().to_vec(), ..Limits::default() },
        stopped: false,
    };
    (tokenizer, text)
}

/// What a client sees when the tokens of `answer` come one by one.
fn shown(stop: &[&str], answer: &str) -> (String, FinishReason) {
    let (tokenizer, mut text) = text(stop);
    let mut out = String::new();
    for (index, id) in tokenizer.encode(answer).unwrap().into_iter().enumerate() {
        let token = v1::Token { index: index as u32, id, ..v1::Token::default() };
        out.extend(text.push(token).map(|(text, _)| text));
    }
    let (rest, reason) = text.finish(FinishReason::Length);
    (out + &rest, reason)
}

#[test]
fn an_answer_ends_before_its_stop_string() {
    assert_eq!(shown(&["END"], "the race ENDs"), ("the race ".to_owned(), FinishReason::Stop));
    assert_eq!(shown(&["END"], "the race EN"), ("the race EN".to_owned(), FinishReason::Length));
    assert_eq!(shown(&[], "grüße 🏃"), ("grüße 🏃".to_owned(), FinishReason::Length));
}

#[test]
fn a_token_that_ends_the_answer_is_not_shown() {
    let (tokenizer, mut text) = text(&[]);
    let id = tokenizer.stop_token_ids()[0];
    assert_eq!(text.push(v1::Token { id, ..v1::Token::default() }), None);
    text.limits.ignore_eos = true;
    assert!(text.push(v1::Token { id, ..v1::Token::default() }).is_some());
}
