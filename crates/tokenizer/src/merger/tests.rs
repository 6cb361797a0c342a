use super::*;
use estafette_gguf::{GgufFile, tiny::tiny_llama};
use proptest::prelude::*;
use std::sync::LazyLock;

static SMOLLM2: LazyLock<Merger> = LazyLock::new(|| {
    let dir = estafette_config::model_cache_dir().unwrap();
    read(&GgufFile::open(&dir.join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap(), "smollm")
});

/// The same vocabulary, cut otherwise: digits stay together.
static GPT2: LazyLock<Merger> = LazyLock::new(|| {
    let dir = estafette_config::model_cache_dir().unwrap();
    read(&GgufFile::open(&dir.join("SmolLM2-135M-Instruct.Q4_1.gguf")).unwrap(), "gpt-2")
});

static TINY: LazyLock<Merger> =
    LazyLock::new(|| read(&GgufFile::from_bytes(tiny_llama(1)).unwrap(), "smollm"));

fn read(file: &GgufFile, pre: &str) -> Merger {
    let mut vocabulary = Vocabulary::read(file, false).unwrap();
    Merger::new(&mut vocabulary, Preparation::named(pre).unwrap()).unwrap()
}

fn both(merger: &Merger, text: &str) -> (Vec<TokenId>, Vec<TokenId>) {
    assert!(merger.fast.is_some());
    let (mut fast, mut library) = (Vec::new(), Vec::new());
    merger.encode(text, &mut fast).unwrap();
    merger.encode_by_library(text, &mut library).unwrap();
    (fast, library)
}

#[test]
fn most_words_of_a_text_need_no_merging() {
    let text = "The prefill worker hands the cache to the decode worker, which streams the tokens of the answer to you.";
    let fast = SMOLLM2.fast.as_ref().unwrap();
    let whole = |word: &&str| fast.whole.contains_key(word.as_bytes());
    let (known, others): (Vec<_>, Vec<_>) = fast.cutter.words(text).partition(whole);
    assert!(known.len() > 5 * others.len(), "{others:?}");
}

#[test]
fn other_expressions_are_left_to_the_library() {
    for pre in ["llama-bpe", "qwen2"] {
        assert!(read(&GgufFile::from_bytes(tiny_llama(1)).unwrap(), pre).fast.is_none());
    }
}

#[test]
fn every_token_of_the_vocabulary_comes_out_as_the_library_says() {
    let file = estafette_config::model_cache_dir().unwrap().join("SmolLM2-135M-Instruct.Q4_1.gguf");
    let vocabulary = Vocabulary::read(&GgufFile::open(&file).unwrap(), false).unwrap();
    for bytes in &vocabulary.bytes {
        let text = String::from_utf8_lossy(bytes);
        let (fast, library) = both(&SMOLLM2, &format!("{text}a{text} {text} "));
        assert_eq!(fast, library, "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_gets_the_library_s_tokens(text in any::<String>()) {
        for merger in [&*SMOLLM2, &*GPT2, &*TINY] {
            let (fast, library) = both(merger, &text);
            prop_assert_eq!(fast, library);
        }
    }

    #[test]
    fn so_does_text_like_people_s(
        text in "((The|don't|we'll| naïve| relay|prefill| 日本|привет|xylophone| [a-z]{1,12}|[0-9²]{1,5}|[ \n\t]{1,5}|[.,;:!?()\"'-]{1,3}|😀)){0,60}"
    ) {
        for merger in [&*SMOLLM2, &*GPT2, &*TINY] {
            let (fast, library) = both(merger, &text);
            prop_assert_eq!(fast, library);
        }
    }
}
