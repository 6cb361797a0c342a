use super::*;
use serde_json::json;

fn render(source: &str, variables: &serde_json::Value) -> Result<String, TokenizerError> {
    let template = ChatTemplate::new(source, "<s>", "</s>")?;
    let messages = [ChatMessage { role: "user".into(), content: " hi ".into() }];
    let variables = variables.as_object().unwrap().clone();
    template.render(&ChatRequest {
        messages: &messages,
        add_generation_prompt: true,
        variables: &variables,
    })
}

#[test]
fn templates_run_as_in_python() {
    let out = |source| render(source, &json!({"x": {"b": "<é>", "a": [1]}})).unwrap();
    assert_eq!(out("{{ bos_token }}{{ messages[0].content.strip() }}"), "<s>hi");
    assert_eq!(out("{% if true %}\n  a\n{% endif %}\nb"), "  a\nb");
    assert_eq!(out("{{ x | tojson }}"), r#"{"b": "<é>", "a": [1]}"#);
    assert_eq!(out("{{ x.a | tojson(indent=1, ensure_ascii=False) }}"), "[\n 1\n]");
    assert_eq!(
        out("{% for m in messages %}{% if loop.first %}{% break %}{% endif %}{% endfor %}ok"),
        "ok"
    );
    assert_eq!(out("{% set ns = namespace(n=1) %}{% set ns.n = 2 %}{{ ns.n }}"), "2");
    assert_eq!(
        out("{{ x | tojson(sort_keys=true, separators=(',', ':')) }}"),
        r#"{"a":[1],"b":"<é>"}"#
    );
    assert_eq!(out("{{ x.b | tojson(ensure_ascii=true) }}"), r#""<\u00e9>""#);
    assert_eq!(out("{% if strftime_now is defined %}{{ strftime_now('%%') }}{% endif %}"), "%");
}

#[test]
fn a_template_s_exception_is_the_client_s_error() {
    let error = render("{{ raise_exception('no ' ~ messages[0].role) }}", &json!({})).unwrap_err();
    assert!(matches!(&error, TokenizerError::Template(text) if text == "no user"), "{error}");
    let date = render("{{ strftime_now('%Q') }}", &json!({}));
    assert!(matches!(date, Err(TokenizerError::Template(_))));
    assert!(matches!(render("{% if %}", &json!({})), Err(TokenizerError::BadTemplate(_))));
}

#[test]
fn a_client_s_variables_cannot_replace_the_conversation() {
    let out = render(
        "{{ messages | length }}{{ eos_token }}",
        &json!({"messages": [], "eos_token": "x"}),
    );
    assert_eq!(out.unwrap(), "1</s>");
}
