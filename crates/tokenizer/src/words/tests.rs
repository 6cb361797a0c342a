use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// The library's words.
fn expected(text: &str, digits: bool) -> Vec<String> {
    let mut cut = PreTokenizedString::from(text);
    if digits {
        Digits::new(true).pre_tokenize(&mut cut).unwrap();
    }
    ByteLevel::new(false, false, true).pre_tokenize(&mut cut).unwrap();
    let splits = cut.get_splits(OffsetReferential::Original, OffsetType::Byte);
    splits.into_iter().map(|(_, (from, to), _)| text[from..to].to_owned()).collect()
}

static CUTTERS: LazyLock<[Cutter; 2]> =
    LazyLock::new(|| [false, true].map(|digits| Cutter::new(digits).unwrap()));

fn check(text: &str) {
    for cutter in &*CUTTERS {
        let words: Vec<_> = cutter.words(text).collect();
        assert_eq!(words, expected(text, cutter.digits), "{text:?}");
    }
}

#[test]
fn every_character_is_cut_as_the_library_cuts_it() {
    // Each one between letters, after spaces, beside itself, after a digit and before a line's end.
    for block in (0..=0x0010_ffff_u32).collect::<Vec<_>>().chunks(4096) {
        let text: String = block
            .iter()
            .filter_map(|code| char::from_u32(*code))
            .map(|c| format!("a{c}b  {c}{c}1{c}\n"))
            .collect();
        check(&text);
    }
}

#[test]
fn spaces_before_a_word_leave_it_the_last_one() {
    let cutter = Cutter::new(false).unwrap();
    let words = |text| cutter.words(text).collect::<Vec<_>>();
    assert_eq!(words("a   b"), ["a", "  ", " b"]);
    assert_eq!(words("a \n\nb  "), ["a", " \n", "\n", "b", "  "]);
    assert_eq!(words("we'll 'sit'"), ["we", "'ll", " '", "sit", "'"]);
    assert_eq!(words(""), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_cut_as_the_library_cuts_it(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn so_is_text_of_what_the_expression_tells_apart(
        text in "('[a-z]{0,3}|[a-zA-Zéß日]{1,4}|[0-9²Ⅷ٣]{1,3}|[ \t\n\r\u{a0}\u{2003}\u{3000}\u{85}]{1,4}|[.,!?\"'—_\u{301}\u{200d}😀]{1,3}){0,30}"
    ) {
        check(&text);
    }
}
