//! Each expected text was printed by Python's `json.dumps`.

use super::*;
use serde_json::json;

#[test]
fn as_python_writes_it() {
    let value = json!({"b": [1, 2.5, null, true], "a": "<é\"\n\u{7f}>", "e": {}, "l": []});
    let unicode = Layout::default();
    assert_eq!(
        dumps(&value, unicode).unwrap(),
        "{\"b\": [1, 2.5, null, true], \"a\": \"<é\\\"\\n\u{7f}>\", \"e\": {}, \"l\": []}"
    );
}

#[test]
fn over_several_lines() {
    let value = json!({"a": [1, {"x": []}], "b": {}, "c": [[]]});
    let layout = Layout { indent: Some(2), ..Layout::default() };
    assert_eq!(
        dumps(&value, layout).unwrap(),
        "{\n  \"a\": [\n    1,\n    {\n      \"x\": []\n    }\n  ],\n  \"b\": {},\n  \"c\": [\n    []\n  ]\n}"
    );
    let layout = Layout { indent: Some(0), ..Layout::default() };
    assert_eq!(dumps(&json!([1, 2]), layout).unwrap(), "[\n1,\n2\n]");
}

#[test]
fn options_change_what_they_name() {
    let value = json!({"b": 1, "a": {"d": "é🏃", "c": 2}});
    let sorted = Layout { sort_keys: true, ..Layout::default() };
    assert_eq!(dumps(&value, sorted).unwrap(), r#"{"a": {"c": 2, "d": "é🏃"}, "b": 1}"#);
    let ascii = Layout { ensure_ascii: true, ..Layout::default() };
    assert_eq!(
        dumps(&value, ascii).unwrap(),
        r#"{"b": 1, "a": {"d": "\u00e9\ud83c\udfc3", "c": 2}}"#
    );
    let separators = Some((",".to_owned(), ":".to_owned()));
    let compact = Layout { separators, ..Layout::default() };
    assert_eq!(dumps(&value, compact).unwrap(), r#"{"b":1,"a":{"d":"é🏃","c":2}}"#);
}

#[test]
fn numbers_have_python_s_exponents() {
    for (number, text) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1e-4, "0.0001"),
        (1e-5, "1e-05"),
        (-1.5e-7, "-1.5e-07"),
        (1e15, "1000000000000000.0"),
        (9_999_999_999_999_998.0, "9999999999999998.0"),
        (1e16, "1e+16"),
        (1.234_567_890_123_456_8e20, "1.2345678901234568e+20"),
        (5e-324, "5e-324"),
        (1e300, "1e+300"),
        (0.1, "0.1"),
    ] {
        assert_eq!(dumps(&json!(number), Layout::default()).unwrap(), text);
    }
}
