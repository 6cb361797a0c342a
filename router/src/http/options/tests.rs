use super::*;
use estafette_types::ErrorCode;

fn options(body: &str) -> Result<AnswerOptions, RequestError> {
    answer_options(&Fields::parse(body.as_bytes()).unwrap(), None, None, 77)
}

#[test]
fn what_is_left_out_has_the_api_s_default() {
    let options = options("{}").unwrap();
    assert_eq!(options.params, SamplingParams { seed: 77, ..SamplingParams::default() });
    assert_eq!(options.max_tokens, None);
    assert!(options.stop.is_empty() && options.skip_special_tokens && !options.ignore_eos);
}

#[test]
fn every_option_is_read() {
    let body = r#"{"temperature": 0, "top_k": -1, "top_p": 0.5, "min_p": 0.1, "seed": -1, "stop": "x",
        "max_completion_tokens": 9, "max_tokens": 3, "stop_token_ids": [4], "ignore_eos": true}"#;
    let options = options(body).unwrap();
    assert_eq!(options.params.temperature, 0.0);
    assert_eq!((options.params.top_k, options.params.top_p, options.params.min_p), (0, 0.5, 0.1));
    assert_eq!(options.params.seed, u64::MAX);
    assert_eq!(options.max_tokens, Some(9));
    assert_eq!((options.stop, options.stop_token_ids), (vec!["x".to_owned()], vec![4]));
    assert!(options.ignore_eos);
}

#[test]
fn impossible_values_are_named() {
    let param = |body| options(body).unwrap_err().param.unwrap();
    assert_eq!(param(r#"{"max_tokens": 0}"#), "max_tokens");
    assert_eq!(param(r#"{"max_tokens": -5}"#), "max_tokens");
    assert_eq!(param(r#"{"max_tokens": 1e99}"#), "max_tokens");
    assert_eq!(param(r#"{"top_k": -2}"#), "top_k");
    assert_eq!(param(r#"{"stop": 5}"#), "stop");
    assert_eq!(param(r#"{"stop": [5]}"#), "stop");
    assert_eq!(options(r#"{"max_tokens": 99999999999}"#).unwrap().max_tokens, Some(u32::MAX));
}

#[test]
fn delivery_is_checked() {
    let read = |body: &str| Delivery::read(&Fields::parse(body.as_bytes()).unwrap());
    assert_eq!(read("{}").unwrap().choices, 1);
    assert_eq!(read(r#"{"n": 0}"#).unwrap_err().param.unwrap(), "n");
    assert_eq!(read(r#"{"n": 129}"#).unwrap_err().param.unwrap(), "n");
    let usage = r#"{"stream_options": {"include_usage": true}}"#;
    assert_eq!(read(usage).unwrap_err().param.unwrap(), "stream_options");
    let streamed = r#"{"stream": true, "stream_options": {"include_usage": true}}"#;
    assert!(read(streamed).unwrap().include_usage);
}

#[test]
fn a_field_that_would_change_the_answer_is_refused_unless_it_does_not() {
    let check = |body: &str| refuse_unsupported(&Fields::parse(body.as_bytes()).unwrap());
    for fine in [
        r#"{"tools": [], "response_format": {"type": "text"}, "logit_bias": {}, "best_of": 1}"#,
        r#"{"tools": null, "user": "me", "store": true, "anything": [1, 2]}"#,
        r#"{"tool_choice": "auto", "echo": false, "suffix": "", "min_tokens": 0}"#,
    ] {
        assert_eq!(check(fine), Ok(()), "{fine}");
    }
    for (body, param) in [
        (r#"{"tools": [{"type": "function"}]}"#, "tools"),
        (r#"{"response_format": {"type": "json_schema"}}"#, "response_format"),
        (r#"{"logit_bias": {"5": 1}}"#, "logit_bias"),
        (r#"{"echo": true}"#, "echo"),
        (r#"{"best_of": 2}"#, "best_of"),
    ] {
        let error = check(body).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (ErrorCode::Unsupported, Some(param)));
    }
}

#[test]
fn an_empty_cache_key_is_no_session() {
    assert_eq!(options(r#"{"prompt_cache_key": ""}"#).unwrap().session, None);
    assert!(options(r#"{"prompt_cache_key": "s"}"#).unwrap().session.is_some());
}
