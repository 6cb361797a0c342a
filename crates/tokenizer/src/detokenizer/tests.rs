use super::*;
use estafette_gguf::{GgufFile, tiny::tiny_llama};
use proptest::prelude::*;

fn tokenizer() -> Arc<Tokenizer> {
    Arc::new(Tokenizer::from_gguf(&GgufFile::from_bytes(tiny_llama(1)).unwrap()).unwrap())
}

#[test]
fn a_character_is_shown_when_it_is_complete() {
    let tokenizer = tokenizer();
    let tokens = tokenizer.encode_plain("é🏃").unwrap();
    assert_eq!(tokens.len(), 6, "one token a byte");
    let mut detokenizer = Detokenizer::new(tokenizer, true);
    let shown: Vec<String> = tokens.iter().map(|id| detokenizer.push(*id)).collect();
    assert_eq!(shown, ["", "é", "", "", "", "🏃"]);
    assert_eq!(detokenizer.finish(), "");
}

#[test]
fn what_is_never_completed_is_replaced() {
    let tokenizer = tokenizer();
    let tokens = tokenizer.encode_plain("🏃").unwrap();
    let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer), true);
    assert_eq!(detokenizer.push(tokens[0]), "");
    assert_eq!(detokenizer.push(tokenizer.encode_plain("a").unwrap()[0]), "\u{fffd}a");
    assert_eq!(detokenizer.push(tokens[0]), "");
    assert_eq!(detokenizer.finish(), "\u{fffd}");
}

#[test]
fn control_tokens_have_no_text_unless_asked_for() {
    let end = tokenizer().stop_token_ids()[0];
    assert_eq!(Detokenizer::new(tokenizer(), true).push(end), "");
    assert_eq!(Detokenizer::new(tokenizer(), false).push(end), "<|im_end|>");
}

proptest! {
    #[test]
    fn token_by_token_gives_the_same_text_as_all_at_once(ids in prop::collection::vec(0..258u32, 0..60)) {
        let tokenizer = tokenizer();
        let mut detokenizer = Detokenizer::new(Arc::clone(&tokenizer), false);
        let mut shown: String = ids.iter().map(|id| detokenizer.push(*id)).collect();
        shown += &detokenizer.finish();
        prop_assert_eq!(shown, tokenizer.decode(&ids, false));
    }
}
