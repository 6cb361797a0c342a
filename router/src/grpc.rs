//! The gRPC API: `estafette.v1.Inference`, and on the same port membership, what operators ask and do, health and reflection.

mod operations;
mod routing;

use crate::answer::{Answer, AnswerPart};
use crate::app::{Admitted, App, turned_away};
use crate::error::{RequestError, RouterError};
use crate::http::{UNREAD_TIMEOUT, checked_role, session_hash, text_bytes};
use crate::membership::MembershipService;
use crate::request::{AnswerOptions, AnswerRequest};
use estafette_proto::v1::{self, generate_request::Prompt};
use estafette_proto::{FILE_DESCRIPTOR_SET, InvalidMessage};
use estafette_security::{Tls, incoming};
use estafette_tokenizer::{ChatMessage, ChatRequest};
use estafette_types::{ErrorCode, SamplingParams, TokenId};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// A client whose connection does not answer a ping for this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Requests of one connection at once.
const STREAMS_MAX: u32 = 4096;
/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;
/// Bytes of a request's headers.
const HEADER_BYTES_MAX: u32 = 64 << 10;
/// Events that may wait for a client that reads slowly.
const EVENT_QUEUE: usize = 32;
/// The service whose health is reported, besides the whole server's (the empty name).
const SERVICE: &str = "estafette.v1.Inference";

/// Serves `Inference`.
#[derive(Clone, Debug)]
struct InferenceService {
    app: Arc<App>,
}

type EventStream = Pin<Box<dyn Stream<Item = Result<v1::GenerateEvent, Status>> + Send>>;

#[tonic::async_trait]
impl v1::inference_server::Inference for InferenceService {
    type GenerateStream = EventStream;

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<EventStream>, Status> {
        let mut admitted = self.app.admit("grpc").map_err(|error| error.to_status())?;
        match answer_request(&self.app, request.into_inner(), admitted.arrived).await {
            Ok(request) => Ok(Response::new(events(self.app.answer(&request), admitted))),
            Err(error) => {
                admitted.ended(Some(&error));
                Err(error.to_status())
            }
        }
    }

    async fn get_model(
        &self,
        _request: Request<v1::GetModelRequest>,
    ) -> Result<Response<v1::Model>, Status> {
        let model = &self.app.model;
        Ok(Response::new(v1::Model {
            name: model.name.clone(),
            max_model_len: self.app.max_model_len(),
            vocab_size: u32::try_from(model.tokenizer.vocab_size()).unwrap_or(u32::MAX),
        }))
    }
}

/// Checks and tokenises a request.
async fn answer_request(
    app: &Arc<App>,
    request: v1::GenerateRequest,
    arrived: Instant,
) -> Result<AnswerRequest, RequestError> {
    app.check_model(&request.model)?;
    let mut params = sampling(request.sampling)?;
    if request.sampling.is_none_or(|sampling| sampling.seed.is_none()) {
        params.seed = app.draw();
    }
    let options = AnswerOptions {
        params,
        max_tokens: request.max_tokens,
        default_max_tokens: u32::MAX,
        stop: request.stop,
        stop_token_ids: request.stop_token_ids,
        ignore_eos: request.ignore_eos,
        skip_special_tokens: true,
        priority: request.priority,
        session: session_hash(&request.session),
    };
    let prompt = app.prompt(tokens(app, request.prompt).await?, "prompt")?;
    app.request(prompt, options, arrived)
}

async fn tokens(app: &Arc<App>, prompt: Option<Prompt>) -> Result<Vec<TokenId>, RequestError> {
    match prompt {
        None => Err(RequestError::field("prompt", "`prompt` is missing")),
        Some(Prompt::TokenIds(tokens)) => Ok(tokens.ids),
        Some(Prompt::Text(text)) => {
            app.tokenise(text.len(), move |model| model.tokenizer.encode(&text)).await
        }
        Some(Prompt::Messages(conversation)) => chat_tokens(app, conversation).await,
    }
}

async fn chat_tokens(
    app: &Arc<App>,
    conversation: v1::Messages,
) -> Result<Vec<TokenId>, RequestError> {
    if conversation.messages.is_empty() {
        return Err(RequestError::field("messages", "`messages` must not be empty"));
    }
    let message = |(i, m): (usize, v1::Message)| {
        let role = checked_role(m.role, &format!("messages[{i}].role"))?;
        Ok(ChatMessage { role, content: m.content })
    };
    let messages: Vec<_> =
        conversation.messages.into_iter().enumerate().map(message).collect::<Result<_, _>>()?;
    let bytes = text_bytes(&messages);
    app.tokenise(bytes, move |model| {
        model.tokenizer.encode_chat(&ChatRequest {
            messages: &messages,
            add_generation_prompt: true,
            variables: &serde_json::Map::new(),
        })
    })
    .await
}

fn sampling(wire: Option<v1::Sampling>) -> Result<SamplingParams, RequestError> {
    SamplingParams::try_from(wire.unwrap_or_default())
        .map_err(|InvalidMessage(what)| RequestError::field("sampling", what))
}

/// The parts of an answer as messages; the last one is `finish` or an error. They are made in a task, so that a request in
/// work ends in time also when its client does not read.
fn events(mut answer: Answer, mut admitted: Admitted) -> EventStream {
    let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
    tokio::spawn(async move {
        // Taken now, while there is room for sure: the last word is not lost.
        let Ok(last_place) = sender.clone().reserve_owned().await else { return };
        let last = loop {
            let part = tokio::select! {
                part = answer.next() => part,
                () = sender.closed() => return,
            };
            let event = match part {
                Ok(AnswerPart::Piece { text, token }) => {
                    let piece = v1::Piece { text, tokens: vec![token] };
                    v1::generate_event::Event::Piece(piece)
                }
                Ok(AnswerPart::End { text, reason, usage }) => {
                    let reason = v1::FinishReason::from(reason).into();
                    let finish = v1::Finish { reason, usage: Some(usage.into()), text };
                    break Ok(v1::generate_event::Event::Finish(finish));
                }
                Err(error) => break Err(error),
            };
            let event = v1::GenerateEvent { event: Some(event) };
            match timeout(UNREAD_TIMEOUT, sender.send(Ok(event))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    let message = "the client does not read its answer";
                    break Err(RequestError::new(ErrorCode::DeadlineExceeded, message));
                }
            }
        };
        admitted.ended(last.as_ref().err());
        let last = last.map(|event| v1::GenerateEvent { event: Some(event) });
        last_place.send(last.map_err(|error| error.to_status()));
    });
    Box::pin(ReceiverStream::new(receiver))
}

/// Serves until `stop` turns true, then answers what is running; workers stay until `leave` turns true. With TLS only those
/// who show a certificate of the cluster get in.
///
/// # Errors
/// When the listener breaks.
pub(crate) async fn serve(
    app: Arc<App>,
    (listener, tls): (TcpListener, Option<Tls>),
    mut stop: watch::Receiver<bool>,
    leave: watch::Receiver<bool>,
) -> Result<(), RouterError> {
    let failed = |reason: String| RouterError::Server { what: "gRPC", reason };
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| failed(error.to_string()))?;
    let reporting = tokio::spawn(report_health(reporter, app.cluster.watch()));
    let membership = MembershipService::new(Arc::clone(&app.cluster), leave);
    let max_message = app.max_body;
    let keys = Arc::clone(&app);
    let operations = operations::OperationsService { cluster: Arc::clone(&app.cluster) };
    let operations = v1::operations_server::OperationsServer::new(operations);
    let routing = routing::RoutingService { app: Arc::clone(&app) };
    let routing =
        v1::routing_server::RoutingServer::new(routing).max_decoding_message_size(max_message);
    let inference = v1::inference_server::InferenceServer::new(InferenceService { app })
        .max_decoding_message_size(max_message);
    let (inference, routing) = (guarded(inference, &keys), guarded(routing, &keys));
    let operations = guarded(operations, &keys);
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(inference)
        .add_service(routing)
        .add_service(operations)
        .add_service(v1::membership_server::MembershipServer::new(membership))
        .add_service(health)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming(listener, tls, CONNECTIONS_MAX), async move {
            drop(stop.wait_for(|stop| *stop).await);
        })
        .await;
    reporting.abort();
    served.map_err(|error| failed(error.to_string()))
}

/// `service` for clients with a key only. Health, reflection and membership ask for none: of workers a certificate is asked.
fn guarded<S>(
    service: S,
    app: &Arc<App>,
) -> InterceptedService<S, impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<S>>
{
    let app = Arc::clone(app);
    InterceptedService::new(service, move |request: Request<()>| {
        let header = request.metadata().get("authorization").map(|value| value.as_bytes());
        match app.check_key(header) {
            Ok(()) => Ok(request),
            Err(error) => {
                turned_away("grpc", &error);
                Err(error.to_status())
            }
        }
    })
}

/// Tells the health service whenever the cluster becomes able or unable to answer.
async fn report_health(reporter: HealthReporter, mut ready: watch::Receiver<bool>) {
    loop {
        let status = if *ready.borrow_and_update() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        for name in ["", SERVICE] {
            reporter.set_service_status(name, status).await;
        }
        if ready.changed().await.is_err() {
            return;
        }
    }
}
