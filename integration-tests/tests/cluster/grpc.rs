//! The gRPC API: the same answers as over HTTP, the standard services, errors with stable codes.

use crate::shared;
use estafette_integration_tests::cluster::Cluster;
use estafette_proto::ERROR_CODE_KEY;
use estafette_proto::v1::generate_request::Prompt;
use estafette_proto::v1::inference_client::InferenceClient;
use estafette_proto::v1::{self, generate_event::Event};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

async fn client(cluster: &Cluster) -> InferenceClient<Channel> {
    InferenceClient::connect(format!("http://{}", cluster.grpc_address)).await.unwrap()
}

fn greedy(prompt: Prompt, max_tokens: u32) -> v1::GenerateRequest {
    v1::GenerateRequest {
        prompt: Some(prompt),
        sampling: Some(v1::Sampling { temperature: Some(0.0), ..v1::Sampling::default() }),
        max_tokens: Some(max_tokens),
        ..v1::GenerateRequest::default()
    }
}

/// Text, token ids and the last event.
async fn generate(
    client: &mut InferenceClient<Channel>,
    request: v1::GenerateRequest,
) -> Result<(String, Vec<u32>, v1::Finish), Status> {
    let mut events = client.generate(request).await?.into_inner();
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match events.message().await?.unwrap().event.unwrap() {
            Event::Piece(piece) => {
                text.push_str(&piece.text);
                for token in piece.tokens {
                    assert_eq!(token.index as usize, tokens.len(), "no gap, no repeat");
                    tokens.push(token.id);
                }
            }
            Event::Finish(finish) => {
                text.push_str(&finish.text);
                assert!(events.message().await?.is_none(), "nothing follows the last event");
                return Ok((text, tokens, finish));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_ids_and_messages_give_what_http_gives() {
    let cluster = shared();
    let mut client = client(&cluster).await;
    let body = json!({ "prompt": "The baton is", "temperature": 0, "max_tokens": 8 });
    let over_http = cluster.http.post("/v1/completions", &body).json();
    let expected = over_http["choices"][0]["text"].as_str().unwrap();

    let by_text =
        generate(&mut client, greedy(Prompt::Text("The baton is".into()), 8)).await.unwrap();
    assert_eq!(by_text.0, expected);
    assert_eq!(by_text.1.len(), 8);
    let usage = by_text.2.usage.unwrap();
    assert_eq!((usage.generated, usage.prompt), (8, usage.cached + usage.computed));

    let ids = cluster.http.post("/tokenize", &json!({ "prompt": "The baton is" })).json();
    let ids = serde_json::from_value(ids["tokens"].clone()).unwrap();
    let by_ids =
        generate(&mut client, greedy(Prompt::TokenIds(v1::TokenIds { ids }), 8)).await.unwrap();
    assert_eq!((by_ids.0, by_ids.1), (by_text.0, by_text.1));

    let message = v1::Message { role: "user".into(), content: "Say hello.".into() };
    let messages = Prompt::Messages(v1::Messages { messages: vec![message] });
    let chat = generate(&mut client, greedy(messages, 10)).await.unwrap();
    let over_http = cluster.chat("Say hello.", &json!({ "temperature": 0, "max_tokens": 10 }));
    assert_eq!(chat.0, over_http["choices"][0]["message"]["content"].as_str().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_their_stable_code() {
    let cluster = shared();
    let mut client = client(&cluster).await;
    let text = |text: &str| Prompt::Text(text.into());
    let wrong_model = v1::GenerateRequest { model: "x".into(), ..greedy(text("a"), 1) };
    let hot = v1::Sampling { temperature: Some(9.0), ..v1::Sampling::default() };
    let hot = v1::GenerateRequest { sampling: Some(hot), ..greedy(text("a"), 1) };
    let too_many = Prompt::TokenIds(v1::TokenIds { ids: vec![5; 9000] });
    for (request, code, stable) in [
        (v1::GenerateRequest::default(), Code::InvalidArgument, "invalid_request"),
        (greedy(text(""), 1), Code::InvalidArgument, "invalid_request"),
        (greedy(text("a"), 0), Code::InvalidArgument, "invalid_request"),
        (
            greedy(Prompt::TokenIds(v1::TokenIds { ids: vec![60_000] }), 1),
            Code::InvalidArgument,
            "invalid_request",
        ),
        (greedy(too_many, 1), Code::InvalidArgument, "context_length_exceeded"),
        (
            greedy(Prompt::Messages(v1::Messages::default()), 1),
            Code::InvalidArgument,
            "invalid_request",
        ),
        (hot, Code::InvalidArgument, "invalid_request"),
        (wrong_model, Code::NotFound, "model_not_found"),
    ] {
        let status = generate(&mut client, request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert_eq!(status.metadata().get(ERROR_CODE_KEY).unwrap(), stable, "{status:?}");
        assert!(!status.message().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_is_described() {
    let cluster = shared();
    let model =
        client(&cluster).await.get_model(v1::GetModelRequest {}).await.unwrap().into_inner();
    assert_eq!((model.max_model_len, model.vocab_size), (8192, 49_152));
    assert_eq!(model.name, "SmolLM2-135M-Instruct.Q4_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_standard_services_answer() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let cluster = shared();
    let address = format!("http://{}", cluster.grpc_address);
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "estafette.v1.Inference"] {
        let request = HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let mut reflection = ServerReflectionClient::new(channel);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers =
        reflection.server_reflection_info(tokio_stream::once(list)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"estafette.v1.Inference"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
}

#[tokio::test]
async fn the_choice_is_explained_and_the_explanation_books_nothing() {
    // Of its own: nobody else must be routed meanwhile.
    let cluster = Cluster::start(&[]);
    let address = format!("http://{}", cluster.grpc_address);
    let mut client = v1::routing_client::RoutingClient::connect(address).await.unwrap();
    let request = v1::GenerateRequest {
        prompt: Some(Prompt::TokenIds(v1::TokenIds { ids: (1000..1800).collect() })),
        max_tokens: Some(5),
        ..v1::GenerateRequest::default()
    };
    let before = cluster.metric("estafette_routes_total", &[]);
    let explanation = client.explain(request.clone()).await.unwrap().into_inner();
    assert_eq!(explanation.prompt_tokens, 800);
    assert!(!explanation.decode.is_empty() && !explanation.reason.is_empty(), "{explanation:?}");
    let parts: Vec<_> = explanation.candidates.iter().map(|c| c.part()).collect();
    assert_eq!(parts, [v1::RoutePart::Prefill, v1::RoutePart::Decode, v1::RoutePart::Aggregated]);
    for candidate in &explanation.candidates {
        assert_eq!(candidate.uncached_tokens, 800);
        let terms = candidate.terms.unwrap();
        let computes = candidate.part() != v1::RoutePart::Decode;
        assert_eq!(terms.prefill > 0.0, computes, "{candidate:?}");
    }
    assert_eq!(cluster.metric("estafette_routes_total", &[]), before);
    let refused = client.explain(v1::GenerateRequest::default()).await.unwrap_err();
    assert!(refused.message().contains("`prompt` is missing"), "{refused:?}");
}
