//! What is asked, and what an undisturbed cluster answers.

use crate::hand::HandMade;
use crate::story::story;
use estafette_proto::v1::generate_event::Event;
use estafette_proto::v1::generate_request::Prompt;
use estafette_proto::v1::inference_client::InferenceClient;
use estafette_proto::v1::{self, GenerateRequest};
use estafette_types::SplitMix64;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// An event that does not come within this time does not come at all.
const HANG: Duration = Duration::from_secs(90);

/// Ids and log-probabilities, in order.
pub(super) type Tokens = Vec<(u32, Option<u32>)>;

/// A request and its one right answer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) request: GenerateRequest,
    pub(super) expected: Tokens,
    pub(super) prompt_tokens: u64,
}

/// Requests of all kinds.
#[derive(Clone, Debug)]
pub(super) struct Catalogue(pub(super) Arc<Vec<Entry>>);

impl Catalogue {
    /// Asks for each once.
    pub(super) fn new(cluster: &HandMade, seed: u64, count: usize) -> Self {
        let mut rng = SplitMix64::new(seed);
        let requests: Vec<_> = (0..count as u64).map(|number| request(number, &mut rng)).collect();
        let entries = runtime().block_on(async {
            let mut client = client(&cluster.grpc_address);
            let mut entries = Vec::new();
            for request in requests {
                let (mut expected, mut heard) = (Tokens::new(), |_| ());
                let end = ask(&mut client, &request, &mut expected, &mut heard).await;
                let Ok(Asked::Whole(usage)) = end else { panic!("undisturbed: {end:?}") };
                entries.push(Entry { request, expected, prompt_tokens: usage.prompt });
            }
            entries
        });
        Self(Arc::new(entries))
    }
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

pub(super) fn client(address: &str) -> InferenceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    InferenceClient::new(endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy())
}

/// Short and long prompts, greedy and sampled answers of 4 to 67 tokens, half of them with penalties.
fn request(number: u64, rng: &mut SplitMix64) -> GenerateRequest {
    let words = [6, 30, 90, 240][rng.below(4) as usize];
    let greedy = number.is_multiple_of(2);
    let sampling = v1::Sampling {
        temperature: Some(if greedy { 0.0 } else { 0.9 }),
        top_p: (!greedy).then_some(0.95),
        frequency_penalty: number.is_multiple_of(4).then_some(0.3),
        repetition_penalty: number.is_multiple_of(3).then_some(1.1),
        seed: Some(number),
        logprobs: Some(0),
        ..v1::Sampling::default()
    };
    GenerateRequest {
        prompt: Some(Prompt::Text(story(number, words))),
        sampling: Some(sampling),
        max_tokens: Some(4 + rng.below(64) as u32),
        ignore_eos: true,
        ..GenerateRequest::default()
    }
}

/// How asking ended.
#[derive(Debug)]
pub(super) enum Asked {
    Whole(v1::Usage),
    /// With an error, after so many tokens as are there.
    Failed(Status),
}

/// Asks once; `tokens` is what came, and `heard` is told after each token how many there are.
///
/// # Errors
/// What must never happen: a gap, a repeat, silence, an answer that ends twice.
pub(super) async fn ask(
    client: &mut InferenceClient<Channel>,
    request: &GenerateRequest,
    tokens: &mut Tokens,
    heard: &mut impl FnMut(usize),
) -> Result<Asked, String> {
    let hung = |_| format!("nothing for {} s", HANG.as_secs());
    let mut events = match timeout(HANG, client.generate(request.clone())).await.map_err(hung)? {
        Ok(events) => events.into_inner(),
        Err(status) => return Ok(Asked::Failed(status)),
    };
    loop {
        let event = match timeout(HANG, events.message()).await.map_err(hung)? {
            Ok(event) => event,
            Err(status) => return Ok(Asked::Failed(status)),
        };
        match event.and_then(|event| event.event) {
            Some(Event::Piece(piece)) => {
                for token in piece.tokens {
                    if token.index as usize != tokens.len() {
                        return Err(format!("index {} after {} tokens", token.index, tokens.len()));
                    }
                    tokens.push((token.id, token.logprob.map(f32::to_bits)));
                }
                heard(tokens.len());
            }
            Some(Event::Finish(finish)) => {
                let last = timeout(HANG, events.message()).await.map_err(hung)?;
                return match last {
                    Ok(None) => Ok(Asked::Whole(finish.usage.unwrap_or_default())),
                    other => Err(format!("after the end came {other:?}")),
                };
            }
            None => return Ok(Asked::Failed(Status::new(Code::Unavailable, "no last word"))),
        }
    }
}
