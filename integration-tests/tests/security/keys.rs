//! Clients bring a key, or are not let in; no key is ever shown.

use super::{Router, folder};
use estafette_integration_tests::cluster::run;
use estafette_integration_tests::eventually;
use estafette_integration_tests::http::Http;
use estafette_proto::v1;
use estafette_proto::v1::generate_request::Prompt;
use estafette_proto::v1::inference_client::InferenceClient;
use estafette_proto::v1::routing_client::RoutingClient;
use serde_json::json;
use tonic::{Code, Request};

const KEY: &str = "sk-the-first-key-of-this-test";
const OTHER: &str = "sk-the-second-key-of-this-test";
/// `printf %s KEY | sha256sum`, for each of them.
const HASHES: [&str; 2] = [
    "dc8f268b99505a6ce176b8f08b6ee15088310b658f5ccf860a4b42c4e31b28c2",
    "ee25cf6771b3a2f766db17c2338ff504d4b9157991b6121e91e7c407aa148c48",
];

fn with_key<T>(message: T, key: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

fn prompt() -> v1::GenerateRequest {
    let prompt = Some(Prompt::Text("hi".into()));
    v1::GenerateRequest { prompt, max_tokens: Some(2), ..v1::GenerateRequest::default() }
}

#[test]
fn the_http_api_asks_for_a_key_and_health_and_metrics_do_not() {
    let folder = folder();
    let file = folder.write("keys", &format!("{} # first\n", HASHES[0]));
    let router = Router::start(&[format!("--api-keys={}", file.display())]);
    let (_worker, _log) = router.worker("w", &[]);
    router.wait_for_workers(1);
    let body = json!({ "prompt": [1, 2], "max_tokens": 2 });
    let (first, second) = (router.http.clone().with_key(KEY), router.http.clone().with_key(OTHER));
    let refused = |http: &Http, why: &str| {
        for path in ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"] {
            let reply = http.post(path, &body);
            let expected = (401, "invalid_api_key".to_owned(), None);
            assert_eq!(reply.error(), expected, "{path}: {}", reply.text);
            assert_eq!(reply.json()["error"]["message"], why, "{path}");
            assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
        }
        assert_eq!(http.get("/v1/models").status, 401);
        assert_eq!(http.get("/v1/models/x").status, 401);
    };
    refused(&router.http, "an API key is needed: send it as `Authorization: Bearer KEY`");
    refused(&second, "the API key is not valid");
    assert_eq!(first.post("/v1/completions", &body).status, 200);
    assert_eq!(first.get("/v1/models").status, 200);
    for open in ["/health/live", "/health/ready", "/metrics"] {
        assert_eq!(router.http.get(open).status, 200, "{open}");
    }
    assert_eq!(router.http.get("/v1/nothing").error().0, 404);
    assert_eq!(first.get("/v1/completions").error().0, 405, "wrong method");
    let counted = router.http.metrics().sum("estafette_requests_total", &["invalid_api_key"]);
    assert!(counted >= 12, "{counted}");
    // The other key comes, the first one goes.
    folder.write("keys", &format!("{}\n", HASHES[1]));
    assert!(eventually(|| second.post("/v1/completions", &body).status == 200));
    refused(&first, "the API key is not valid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grpc_api_asks_for_a_key_too() {
    let folder = folder();
    let file = folder.write("keys", HASHES[0]);
    let router = Router::start(&[format!("--api-keys={}", file.display())]);
    let (_worker, _log) = router.worker("w", &[]);
    tokio::task::block_in_place(|| router.wait_for_workers(1));
    let address = format!("http://{}", router.grpc_address);
    let mut client = InferenceClient::connect(address.clone()).await.unwrap();
    let status = client.generate(prompt()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let code = status.metadata().get(estafette_proto::ERROR_CODE_KEY).unwrap();
    assert_eq!(code, "invalid_api_key");
    let status = client.generate(with_key(prompt(), OTHER)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(client.generate(with_key(prompt(), KEY)).await.is_ok());
    let mut routing = RoutingClient::connect(address).await.unwrap();
    assert_eq!(routing.explain(prompt()).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(routing.explain(with_key(prompt(), KEY)).await.is_ok());
    // The command brings the key from a file.
    let key = folder.write("key", &format!("{KEY}\n"));
    let mut args = vec!["route", "explain", "hi", "--router", &router.grpc_address];
    let output = run(&args);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("an API key is needed"), "{text}");
    args.extend(["--api-key-file", key.to_str().unwrap()]);
    assert!(run(&args).status.success());
}

#[test]
fn no_key_is_shown_anywhere() {
    let folder = folder();
    let file = folder.write("keys", HASHES[0]);
    let router = Router::with_log("trace", &[format!("--api-keys={}", file.display())]);
    let (_worker, _log) = router.worker("w", &[]);
    router.wait_for_workers(1);
    let mut seen = String::new();
    for key in [KEY, OTHER] {
        let http = router.http.clone().with_key(key);
        let body = json!({ "prompt": [1, 2], "max_tokens": 2 });
        seen.push_str(&http.post("/v1/completions", &body).text);
        let body = json!({ "prompt": "x", "max_tokens": 0 });
        seen.push_str(&http.post("/v1/completions", &body).text);
        let key_file = folder.write("key", key);
        let explain = ["route", "explain", "hi", "--router", &router.grpc_address];
        let output = run(&[&explain[..], &["--api-key-file", key_file.to_str().unwrap()]].concat());
        seen.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    seen.push_str(&router.http.metrics().0);
    router.log.wait_for("connection accepted");
    seen.push_str(&router.log.text());
    for secret in [KEY, OTHER, HASHES[0]] {
        assert!(!seen.contains(secret), "shown: {secret}");
    }
    // A file of keys instead of hashes is refused without showing it.
    let wrong = folder.write("wrong", KEY);
    let output = run(&["router", "--api-keys", wrong.to_str().unwrap()]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("line 1: not a SHA-256") && !text.contains(KEY), "{text}");
}
