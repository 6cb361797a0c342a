use super::*;
use axum::http::HeaderValue;

fn session(headers: &[(&'static str, &[u8])]) -> Option<u64> {
    let pair = |(name, value): &(&'static str, &[u8])| {
        ((*name).parse().unwrap(), HeaderValue::from_bytes(value).unwrap())
    };
    session_of(&headers.iter().map(pair).collect())
}

#[test]
fn an_empty_name_is_no_session() {
    assert_eq!(session(&[]), None);
    assert_eq!(session(&[("x-session-affinity", b"")]), None);
    let named = session(&[("x-session-id", b"s")]);
    assert!(named.is_some());
    assert_eq!(session(&[("x-session-affinity", b""), ("x-session-id", b"s")]), named);
    assert_eq!(session_hash(""), None);
}

#[test]
fn a_session_header_that_cannot_be_read_is_ignored() {
    assert_eq!(session(&[("x-session-affinity", b"\xff")]), None);
    let named = session(&[("x-session-id", b"s")]);
    assert_eq!(session(&[("x-session-affinity", b"\xff"), ("x-session-id", b"s")]), named);
}
