use super::*;

fn error(body: &[u8]) -> RequestError {
    Fields::parse(body).unwrap_err()
}

#[test]
fn a_body_that_is_no_object_says_where_it_breaks() {
    assert!(error(b"{\"a\": ").message.contains("EOF while parsing"));
    assert!(error(b"[1]").message.starts_with("the body is not a JSON object"));
    assert_eq!(error(b"{\"a\": \"\xff\"}").message, "the body is not UTF-8: byte 7 is wrong");
    assert!(error(b"").message.contains("EOF"));
}

#[test]
fn a_wrong_type_names_the_field() {
    let fields = Fields::parse(br#"{"n": "two", "seed": 1, "stop": null}"#).unwrap();
    let wrong = fields.get::<u32>("n").unwrap_err();
    assert_eq!(wrong.param.as_deref(), Some("n"));
    assert_eq!(wrong.message, "`n`: invalid type: string \"two\", expected a whole number");
    assert_eq!(fields.get::<i64>("seed").unwrap(), Some(1));
    assert_eq!(fields.get::<String>("stop").unwrap(), None);
    assert_eq!(fields.require::<String>("prompt").unwrap_err().message, "`prompt` is missing");
}

#[test]
fn of_a_repeated_field_the_last_one_counts() {
    let fields = Fields::parse(br#"{"n": 1, "n": 2}"#).unwrap();
    assert_eq!(fields.get_or("n", 0u32).unwrap(), 2);
}
