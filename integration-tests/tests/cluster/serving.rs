//! What a person sees who follows the README.

use crate::shared;
use estafette_integration_tests::cluster::{Cluster, chat_body};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;

#[test]
fn a_question_goes_through_both_pools_and_is_answered() {
    let cluster = shared();
    let before = cluster.metric("estafette_worker_tokens_total", &["prefill-0", "computed"]);
    // Longer than the decode worker would rather compute itself.
    let story = "The baton goes from hand to hand. ".repeat(120);
    let answer = cluster.chat(&story, &json!({ "temperature": 0, "max_tokens": 8 }));
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().is_empty());
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    assert!(cluster.metric("estafette_routes_total", &["disaggregated"]) > 0);
    let after = cluster.metric("estafette_worker_tokens_total", &["prefill-0", "computed"]);
    assert!(after > before, "the prefill worker computed the prompt");
}

#[test]
fn a_streamed_answer_has_the_text_of_a_whole_one() {
    let cluster = shared();
    let extra = json!({ "temperature": 0, "max_tokens": 24 });
    let whole = cluster.chat("Name three runners.", &extra);
    let mut body = chat_body("Name three runners.", &extra);
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let events = cluster.http.stream("/v1/chat/completions", &body).rest();
    let text: String =
        events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
    assert_eq!(usage["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    assert!(chunks.iter().all(|chunk| chunk["usage"] == Value::Null));
    let reasons: Vec<_> = chunks.iter().map(|c| &c["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons.iter().filter(|reason| !reason.is_null()).count(), 1);
    assert_eq!(*reasons[reasons.len() - 1], "length");
}

#[test]
fn tokens_and_text_are_two_views_of_one_thing() {
    let http = &shared().http;
    let text = "Grüße, 世界! 🏃 x=42\n\n  <|im_end|>";
    let tokens = http.post("/tokenize", &json!({ "prompt": text })).json();
    let count = tokens["tokens"].as_array().unwrap().len();
    assert_eq!(tokens["count"], count);
    assert_eq!(tokens["max_model_len"], 8192);
    let back = http.post("/detokenize", &json!({ "tokens": tokens["tokens"] })).json();
    assert_eq!(back["prompt"], text);
    let chat =
        json!({ "messages": [{ "role": "user", "content": "Hi" }], "return_token_strs": true });
    let chat = http.post("/tokenize", &chat).json();
    assert_eq!(chat["token_strs"][0], "<|im_start|>");
}

#[test]
fn the_model_and_the_health_are_told() {
    let cluster = shared();
    let models = cluster.http.get("/v1/models").json();
    let name = models["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(name, "SmolLM2-135M-Instruct.Q4_1");
    assert_eq!(cluster.http.get(&format!("/v1/models/{name}")).json()["id"], name.as_str());
    assert_eq!(cluster.http.get("/health/live").status, 200);
    let ready = cluster.http.get("/health/ready");
    assert_eq!(
        (ready.status, &ready.json()["workers"]),
        (200, &json!({ "prefill": 1, "decode": 1 }))
    );
    let metrics = cluster.http.get("/metrics").text;
    assert!(metrics.contains("# TYPE estafette_time_to_first_token_seconds histogram"));
    assert!(metrics.contains("estafette_workers{role=\"decode\"} 1"));
}

#[test]
fn several_answers_to_one_prompt_differ_and_repeat_with_their_seed() {
    let cluster = shared();
    let extra = json!({ "n": 3, "seed": 5, "max_tokens": 12, "temperature": 1.0 });
    let texts = |answer: &Value| -> Vec<Value> {
        answer["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["message"]["content"].clone())
            .collect()
    };
    let first = cluster.chat("Tell me a story.", &extra);
    let second = cluster.chat("Tell me a story.", &extra);
    assert_eq!(texts(&first), texts(&second));
    assert_ne!(texts(&first)[0], texts(&first)[1]);
    assert_eq!(first["usage"]["completion_tokens"], 36);
    let one = json!({ "seed": 5, "max_tokens": 12, "temperature": 1.0 });
    assert_eq!(texts(&cluster.chat("Tell me a story.", &one))[0], texts(&first)[0]);
}

#[test]
fn an_answer_ends_before_its_stop_string() {
    let cluster = shared();
    let body = json!({ "prompt": "1 2 3 4 5 6 7", "temperature": 0, "max_tokens": 30 });
    let whole = cluster.http.post("/v1/completions", &body).json();
    let text = whole["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop = &text[text.len() / 2..text.len() / 2 + 3];
    let mut body = body;
    body["stop"] = json!([stop]);
    let cut = cluster.http.post("/v1/completions", &body).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    assert_eq!(cut["choices"][0]["text"].as_str().unwrap(), text.split(stop).next().unwrap());
}

#[test]
fn ctrl_c_stops_everything_and_exits_0() {
    let cluster = Cluster::start(&["--prefill", "1", "--decode", "2"]);
    let pids = cluster.pids("worker");
    assert_eq!(pids.len(), 3);
    let running = {
        let http = cluster.http.clone();
        let body =
            chat_body("Count.", &json!({ "max_tokens": 40, "temperature": 0, "ignore_eos": true }));
        std::thread::spawn(move || http.post("/v1/chat/completions", &body))
    };
    while cluster.metric("estafette_worker_decoding_sequences", &[]) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    cluster.signal(Signal::INT);
    let reply = running.join().unwrap();
    assert_eq!(reply.status, 200, "what runs is answered: {}", reply.text);
    assert_eq!(reply.json()["usage"]["completion_tokens"], 40);
    assert_eq!(cluster.wait(), Some(0));
    for pid in pids {
        let alive = Command::new("kill").args(["-0", &pid.to_string()]).output().unwrap();
        assert!(!alive.status.success(), "process {pid} outlived the cluster");
    }
}
