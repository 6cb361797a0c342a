use super::*;
use proptest::prelude::*;

fn run(stops: &[String], pieces: &[String]) -> (String, bool) {
    let mut matcher = StopMatcher::new(stops.to_vec());
    let mut shown = String::new();
    for piece in pieces {
        let outcome = matcher.push(piece);
        shown.push_str(&outcome.text);
        if outcome.stopped {
            return (shown, true);
        }
    }
    (shown + &matcher.finish(), false)
}

/// The text before the stop string that is complete first in the whole text, found letter by letter.
fn expected(stops: &[String], text: &str) -> (String, bool) {
    for end in text.char_indices().map(|(i, c)| i + c.len_utf8()) {
        let ending = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
        if let Some(longest) = ending.map(String::len).max() {
            return (text[..end - longest].to_owned(), true);
        }
    }
    (text.to_owned(), false)
}

#[test]
fn a_stop_string_across_pieces_is_found_and_never_shown() {
    let stops = ["\n\nUser:".to_owned()];
    let pieces = ["fine.\n", "\nUs", "er", ": more"].map(str::to_owned);
    assert_eq!(run(&stops, &pieces), ("fine.".to_owned(), true));
    let pieces = ["fine.\n", "\nUs", "eless"].map(str::to_owned);
    assert_eq!(run(&stops, &pieces), ("fine.\n\nUseless".to_owned(), false));
}

#[test]
fn text_is_held_back_no_longer_than_it_must() {
    let mut matcher = StopMatcher::new(vec!["aab".into()]);
    assert_eq!(matcher.push("xa").text, "x");
    assert_eq!(matcher.push("a").text, "");
    assert_eq!(matcher.push("a").text, "a");
    assert_eq!(matcher.push("c").text, "aac");
    assert_eq!(matcher.finish(), "");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn however_a_text_is_cut_the_same_is_shown(
        text in "[ab é]{0,24}",
        stops in prop::collection::vec("[ab é]{1,4}", 0..4),
        cuts in prop::collection::vec(0..25usize, 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|i| text.is_char_boundary(*i)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<String> = cuts.windows(2).map(|w| text[w[0]..w[1]].to_owned()).collect();
        prop_assert_eq!(run(&stops, &pieces), expected(&stops, &text));
    }
}
