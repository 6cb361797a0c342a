//! Bad input gets a clear error in OpenAI's form and changes nothing.

use crate::shared;
use estafette_integration_tests::cluster::{Cluster, chat_body};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat(extra: &Value) -> Value {
    chat_body("Hi", extra)
}

#[test]
fn each_mistake_names_its_field() {
    let http = &shared().http;
    let long = "word ".repeat(9000);
    for (path, body, status, code, param) in [
        (CHAT, json!({}), 400, "invalid_request", Some("messages")),
        (CHAT, json!({ "messages": [] }), 400, "invalid_request", Some("messages")),
        (CHAT, json!({ "messages": "Hi" }), 400, "invalid_request", Some("messages")),
        (CHAT, chat(&json!({ "model": "gpt-x" })), 404, "model_not_found", Some("model")),
        (CHAT, chat(&json!({ "max_tokens": 0 })), 400, "invalid_request", Some("max_tokens")),
        (CHAT, chat(&json!({ "max_tokens": "5" })), 400, "invalid_request", Some("max_tokens")),
        (
            CHAT,
            chat(&json!({ "max_tokens": 1e12 as u64 })),
            400,
            "context_length_exceeded",
            Some("max_tokens"),
        ),
        (CHAT, chat(&json!({ "temperature": 3 })), 400, "invalid_request", Some("temperature")),
        (CHAT, chat(&json!({ "temperature": "hot" })), 400, "invalid_request", Some("temperature")),
        (CHAT, chat(&json!({ "top_p": 0 })), 400, "invalid_request", Some("top_p")),
        (CHAT, chat(&json!({ "n": 0 })), 400, "invalid_request", Some("n")),
        (
            CHAT,
            chat(&json!({ "logprobs": true, "top_logprobs": 21 })),
            400,
            "invalid_request",
            Some("top_logprobs"),
        ),
        (CHAT, chat(&json!({ "stop": [""] })), 400, "invalid_request", Some("stop")),
        (
            CHAT,
            chat(&json!({ "tools": [{ "type": "function" }] })),
            400,
            "unsupported_parameter",
            Some("tools"),
        ),
        (
            CHAT,
            chat(&json!({ "logit_bias": { "1": 5 } })),
            400,
            "unsupported_parameter",
            Some("logit_bias"),
        ),
        (CHAT, chat_body(&long, &json!({})), 400, "context_length_exceeded", Some("messages")),
        (COMPLETIONS, json!({ "prompt": "" }), 400, "invalid_request", Some("prompt")),
        (COMPLETIONS, json!({ "prompt": [] }), 400, "invalid_request", Some("prompt")),
        (COMPLETIONS, json!({ "prompt": long }), 400, "context_length_exceeded", Some("prompt")),
        (COMPLETIONS, json!({ "prompt": [99999] }), 400, "invalid_request", Some("prompt")),
        (COMPLETIONS, json!({ "prompt": [-1] }), 400, "invalid_request", Some("prompt")),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "echo": true }),
            400,
            "unsupported_parameter",
            Some("echo"),
        ),
        ("/detokenize", json!({ "tokens": [50000] }), 400, "invalid_request", Some("tokens")),
        ("/tokenize", json!({}), 400, "invalid_request", Some("prompt")),
    ] {
        let reply = http.post(path, &body);
        let expected = (status, code.to_owned(), param.map(str::to_owned));
        assert_eq!(reply.error(), expected, "{path}: {} answered {}", short(&body), reply.text);
    }
}

fn short(body: &Value) -> String {
    body.to_string().chars().take(200).collect()
}

#[test]
fn bytes_that_are_no_request_are_refused() {
    let http = &shared().http;
    for bytes in
        [&b""[..], b"{", b"null", b"[]", b"\"x\"", b"{\"messages\": \xff}", b"\x00\x01\x02"]
    {
        let (status, code, _) = http.post_bytes(CHAT, bytes).error();
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{bytes:?}");
    }
    let deep = "[".repeat(100_000);
    let (status, ..) = http.post_bytes(CHAT, format!("{{\"messages\": {deep}").as_bytes()).error();
    assert_eq!(status, 400);
    let large = vec![b' '; (4 << 20) + 1];
    let (status, code, _) = http.post_bytes(CHAT, &large).error();
    assert_eq!((status, code.as_str()), (413, "body_too_large"));
    assert_eq!(http.get("/v1/nothing").error().0, 404);
    assert_eq!(http.get(CHAT).error().0, 405, "wrong method");
}

#[test]
fn after_all_of_it_nothing_has_changed() {
    let cluster = Cluster::start(&[]);
    let blocks = cluster.metric("estafette_worker_free_blocks", &[]);
    let steps = cluster.metric("estafette_worker_steps_total", &[]);
    for extra in [json!({ "max_tokens": 0 }), json!({ "model": "x" }), json!({ "seed": "x" })] {
        assert!(cluster.http.post(CHAT, &chat(&extra)).status >= 400);
    }
    assert_eq!(cluster.metric("estafette_worker_free_blocks", &[]), blocks);
    assert_eq!(cluster.metric("estafette_worker_steps_total", &[]), steps);
    assert_eq!(cluster.metric("estafette_requests_running", &[]), 0);
    assert_eq!(cluster.chat("Hi", &json!({ "max_tokens": 2 }))["usage"]["completion_tokens"], 2);
}
