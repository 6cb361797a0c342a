use super::*;

fn read(prompt: &str) -> Result<Vec<RawPrompt>, RequestError> {
    let body = format!("{{\"prompt\": {prompt}}}");
    prompts(&Fields::parse(body.as_bytes()).unwrap())
}

#[test]
fn a_prompt_has_four_forms() {
    let text = |text: &str| RawPrompt::Text(text.to_owned());
    assert_eq!(read("\"a\"").unwrap(), [text("a")]);
    assert_eq!(read(r#"["a", "b"]"#).unwrap(), [text("a"), text("b")]);
    assert_eq!(read("[1, 2]").unwrap(), [RawPrompt::Tokens(vec![1, 2])]);
    assert_eq!(
        read("[[1], [2, 3]]").unwrap(),
        [RawPrompt::Tokens(vec![1]), RawPrompt::Tokens(vec![2, 3])]
    );
}

#[test]
fn anything_else_is_refused() {
    for wrong in ["5", "{}", "[]", "[1, \"a\"]", "[-1]", "[[1], 2]", "[null]", "null"] {
        assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some("prompt"), "{wrong}");
    }
    let many = format!("[{}]", vec!["\"x\""; 129].join(","));
    assert!(read(&many).unwrap_err().message.contains("at most 128"));
}
