//! Tokenizer and chat template against tokenizers and jinja2.

use crate::data::{self, Chat, Tokenization};
use estafette_gguf::GgufFile;
use estafette_integration_tests::model;
use estafette_tokenizer::{ChatRequest, Tokenizer};

fn tokenizer() -> Tokenizer {
    Tokenizer::from_gguf(&GgufFile::open(&model::real()).unwrap()).unwrap()
}

#[test]
fn texts_become_the_same_tokens() {
    let tokenizer = tokenizer();
    let Tokenization { texts } = data::read("tokenization");
    assert!(texts.len() > 70);
    for case in texts {
        let ids = tokenizer.encode(&case.text).unwrap();
        assert_eq!(ids, case.ids, "{}", case.name);
        let plain = tokenizer.encode_plain(&case.text).unwrap();
        assert_eq!(plain, case.plain_ids.unwrap_or(case.ids), "{}, plain", case.name);
        let decoded = tokenizer.decode(&ids, false);
        assert_eq!(decoded, case.decoded.unwrap_or(case.text), "{}, decoded", case.name);
    }
}

#[test]
fn conversations_become_the_same_tokens() {
    let tokenizer = tokenizer();
    let variables = serde_json::Map::new();
    let Chat { cases } = data::read("chat");
    assert!(cases.iter().any(|case| case.safe_ids.is_some()));
    for case in cases {
        let request = ChatRequest {
            messages: &case.messages,
            add_generation_prompt: case.add_generation_prompt,
            variables: &variables,
        };
        assert_eq!(tokenizer.render_chat(&request).unwrap(), case.text, "{}", case.name);
        let ids = tokenizer.encode_chat(&request).unwrap();
        assert_eq!(ids, case.safe_ids.unwrap_or(case.ids), "{}", case.name);
    }
}
