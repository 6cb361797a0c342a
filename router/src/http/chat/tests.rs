use super::*;

fn conversation(messages: &str) -> Result<Conversation, RequestError> {
    let body = format!("{{\"messages\": {messages}}}");
    Conversation::read(&Fields::parse(body.as_bytes()).unwrap())
}

#[test]
fn contents_are_text_or_parts_of_text() {
    let read = conversation(
        r#"[{"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null}]"#,
    )
    .unwrap();
    let texts: Vec<_> = read.messages.iter().map(|m| (&*m.role, &*m.content)).collect();
    assert_eq!(texts, [("system", "be brief"), ("user", "ab"), ("assistant", "")]);
    assert!(read.add_generation_prompt);
}

#[test]
fn what_cannot_be_rendered_is_named() {
    for (messages, param) in [
        ("[]", "messages"),
        ("null", "messages"),
        ("\"hi\"", "messages"),
        (r#"[{"content": "x"}]"#, "messages"),
        (r#"[{"role": "user"}]"#, "messages[0].content"),
        (r#"[{"role": "user", "content": 5}]"#, "messages[0].content"),
        (r#"[{"role": "boss", "content": "x"}]"#, "messages[0].role"),
        (r#"[{"role": "tool", "content": "x"}]"#, "messages[0].role"),
        (r#"[{"role": "user", "content": [{"type": "image_url"}]}]"#, "messages[0].content"),
        (r#"[{"role": "user", "content": [{"type": "text"}]}]"#, "messages[0].content"),
        (r#"[{"role": "assistant", "tool_calls": [{}]}]"#, "messages[0].tool_calls"),
    ] {
        let error = conversation(messages).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{messages}: {error}");
    }
}

#[test]
fn alternatives_need_log_probabilities() {
    let read = |body: &str| logprobs(&Fields::parse(body.as_bytes()).unwrap());
    assert_eq!(read("{}").unwrap(), None);
    assert_eq!(read(r#"{"logprobs": true}"#).unwrap(), Some(0));
    assert_eq!(read(r#"{"logprobs": true, "top_logprobs": 5}"#).unwrap(), Some(5));
    assert_eq!(read(r#"{"top_logprobs": 5}"#).unwrap_err().param.unwrap(), "top_logprobs");
    assert_eq!(read(r#"{"logprobs": 3}"#).unwrap_err().param.unwrap(), "logprobs");
}
