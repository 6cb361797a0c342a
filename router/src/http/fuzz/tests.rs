use super::*;
use estafette_fuzzing::drive;

const OPTIONS: &[u8] = br#"{"model":"m","max_tokens":5,"temperature":0.7,"top_p":0.9,"top_k":-1,"min_p":0.1,"n":2,
"seed":-3,"stop":["a","b"],"stop_token_ids":[1,2],"logprobs":true,"top_logprobs":3,"stream":true,
"stream_options":{"include_usage":true},"priority":-1,"prompt_cache_key":"s","tools":[],"logit_bias":{},
"presence_penalty":0.5,"repetition_penalty":1.1,"ignore_eos":false,"messages":[{"role":"user","content":"hi"}]}"#;

#[test]
fn bodies_of_chat() {
    let parts = br#"{"messages":[{"role":"developer","content":[{"type":"text","text":"a"}]},
{"role":"assistant","tool_calls":[]}],"chat_template_kwargs":{"x":[1,{"y":null}]},"max_completion_tokens":9}"#;
    drive(chat_body, 3, &[OPTIONS, parts, b"{}", br#"{"messages":[]}"#]);
}

#[test]
fn bodies_of_completions() {
    let corpus: [&[u8]; 5] = [
        OPTIONS,
        br#"{"prompt":"once","logprobs":3,"echo":false,"best_of":1}"#,
        br#"{"prompt":[1,2,3],"max_tokens":1}"#,
        br#"{"prompt":["a","b"],"stop":"x"}"#,
        br#"{"prompt":[[1],[2,3]],"suffix":""}"#,
    ];
    drive(completion_body, 4, &corpus);
}

#[test]
fn bodies_of_tokens() {
    let corpus: [&[u8]; 3] = [
        br#"{"prompt":"hello","return_token_strs":true,"tokens":[1]}"#,
        br#"{"messages":[{"role":"system","content":"x"}],"tokens":[0,4294967295]}"#,
        br#"{"tokens":[1,2,3],"model":"m"}"#,
    ];
    drive(token_body, 5, &corpus);
}
