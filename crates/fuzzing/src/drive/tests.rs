use super::*;

fn words_of(ended: std::thread::Result<()>) -> String {
    *ended.unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn an_input_that_fails_is_shown_in_hex() {
    let entry: fn(&[u8]) = |bytes| assert!(bytes != b"bad\x01");
    let text = words_of(catch_unwind(|| drive(entry, 1, &[b"good", b"bad\x01"])));
    assert_eq!(text, "an input of the corpus fails, in hex: 62616401");
}

/// A length that is believed: the kind of mistake that this is for.
#[test]
fn a_planted_mistake_is_found_and_can_be_made_again() {
    let entry: fn(&[u8]) = |bytes| {
        if let Some((&len, rest)) = bytes.split_first()
            && len == 5
        {
            assert_eq!(rest[..len as usize].len(), 5);
        }
    };
    let text = words_of(catch_unwind(|| drive(entry, 7, &[b"\x05hello", b"\x02ab"])));
    let number = text.strip_prefix("input ").and_then(|rest| rest.split_once(' ')).unwrap().0;
    let again = words_of(catch_unwind(|| drive(entry, 7, &[b"\x05hello", b"\x02ab"])));
    assert_eq!(text, again, "the same input {number}");
}

#[test]
fn what_never_fails_ends_in_time() {
    let began = Instant::now();
    drive(|bytes| assert!(bytes.len() <= BYTES_MAX), 3, &[b"{\"a\": 1}"]);
    assert!(began.elapsed() >= TIME);
}
