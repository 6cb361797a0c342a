//! What every request needs, whatever protocol it comes in.

use crate::answer::Answer;
use crate::cluster::Cluster;
use crate::error::RequestError;
use crate::generation::{Generation, Turn};
use crate::metrics::RouterMetrics;
use crate::model::ServedModel;
use crate::request::{AnswerOptions, AnswerRequest, Prompt};
use estafette_config::RouterSettings;
use estafette_security::ApiKeys;
use estafette_telemetry::{Exporter, catalogue};
use estafette_tokenizer::TokenizerError;
use estafette_types::{ErrorCode, RequestId, SplitMix64, TokenId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Texts from this length on are tokenised on a thread that may be busy for a while.
const LONG_TEXT_BYTES: usize = 16 << 10;
/// How many of them at once: tokenising takes a hundred times the memory of its text.
const LONG_TEXTS_MAX: usize = 4;
/// How long a text may wait for that.
const LONG_TEXT_TIMEOUT: Duration = Duration::from_secs(60);

/// Shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) model: ServedModel,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) exporter: Exporter,
    pub(crate) max_body: usize,
    keys: Option<ApiKeys>,
    timeout: Duration,
    max_concurrent_requests: usize,
    places: Arc<Semaphore>,
    long_texts: Arc<Semaphore>,
    rng: Mutex<SplitMix64>,
}

impl App {
    pub(crate) fn new(
        model: ServedModel,
        cluster: Arc<Cluster>,
        exporter: Exporter,
        settings: &RouterSettings,
        keys: Option<ApiKeys>,
        seed: u64,
    ) -> Self {
        Self {
            model,
            cluster,
            exporter,
            max_body: usize::try_from(settings.max_body.0).unwrap_or(usize::MAX),
            keys,
            timeout: settings.admission.request_timeout,
            max_concurrent_requests: settings.admission.max_concurrent_requests,
            places: Arc::new(Semaphore::new(settings.admission.max_concurrent_requests)),
            long_texts: Arc::new(Semaphore::new(LONG_TEXTS_MAX)),
            rng: Mutex::new(SplitMix64::new(seed)),
        }
    }

    /// Whether a client with this `Authorization` header may use the API.
    ///
    /// # Errors
    /// When it brings no key, or a wrong one.
    pub(crate) fn check_key(&self, authorization: Option<&[u8]>) -> Result<(), RequestError> {
        let Some(keys) = &self.keys else { return Ok(()) };
        keys.check(authorization)
            .map_err(|denied| RequestError::new(ErrorCode::InvalidApiKey, denied.to_string()))
    }

    /// Waits until no request is in work.
    pub(crate) async fn idle(&self) {
        let all = u32::try_from(self.max_concurrent_requests).unwrap_or(u32::MAX);
        drop(self.places.acquire_many(all).await);
    }

    /// Whether a request would be let in now, for a look before its body is read: no place is taken, since a client may
    /// take its time to send.
    ///
    /// # Errors
    /// When it would be turned away whatever it says.
    pub(crate) fn check_open(&self) -> Result<(), RequestError> {
        if self.places.available_permits() == 0 {
            return Err(all_places_taken());
        }
        self.cluster.check_open()
    }

    /// A place among the requests in work.
    ///
    /// # Errors
    /// When all are taken, or there would be nothing but to turn the request away.
    pub(crate) fn admit(&self, endpoint: &'static str) -> Result<Admitted, RequestError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| all_places_taken());
        let place = place.and_then(|place| self.cluster.check_open().map(|()| place));
        let place = place.inspect_err(|error| turned_away(endpoint, error))?;
        let metrics = self.cluster.metrics().clone();
        metrics.running.increment(1.0);
        Ok(Admitted { _place: place, metrics, endpoint, arrived: Instant::now(), code: None })
    }

    /// # Errors
    /// When another model is asked for.
    pub(crate) fn check_model(&self, name: &str) -> Result<(), RequestError> {
        if self.model.answers_to(name) {
            return Ok(());
        }
        Err(RequestError {
            code: ErrorCode::ModelNotFound,
            message: format!("the model `{name}` is not served here, only `{}`", self.model.name),
            param: Some("model".into()),
        })
    }

    /// The longest sequence, prompt and answer together.
    pub(crate) fn max_model_len(&self) -> u32 {
        self.cluster.shape().max_model_len
    }

    /// # Errors
    /// When `tokens` cannot be a prompt.
    pub(crate) fn prompt(&self, tokens: Vec<TokenId>, param: &str) -> Result<Prompt, RequestError> {
        Prompt::new(tokens, param, &self.model, self.cluster.shape())
    }

    /// # Errors
    /// Names the option that is wrong.
    pub(crate) fn request(
        &self,
        prompt: Prompt,
        options: AnswerOptions,
        arrived: Instant,
    ) -> Result<AnswerRequest, RequestError> {
        let (id, times) = (self.request_id(), (arrived, self.timeout));
        AnswerRequest::new(id, prompt, options, &self.model, self.max_model_len(), times)
    }

    /// Starts the one answer to `request`.
    pub(crate) fn answer(&self, request: &AnswerRequest) -> Answer {
        self.answer_in_turn(request, Turn::order().0)
    }

    /// Starts `count` answers to `request`, the others when the first one has its first token.
    pub(crate) fn answers(&self, request: &AnswerRequest, count: usize) -> Vec<Answer> {
        let (first, after) = Turn::order();
        let later = (1..count).map(|i| (i, Turn::After(after.clone())));
        std::iter::once((0, first))
            .chain(later)
            .map(|(i, turn)| self.answer_in_turn(&request.choice(i, self.request_id()), turn))
            .collect()
    }

    fn answer_in_turn(&self, request: &AnswerRequest, turn: Turn) -> Answer {
        let generation = Generation::start(Arc::clone(&self.cluster), request.clone(), turn);
        Answer::new(generation, request, &self.model)
    }

    /// A number that no other request gets.
    pub(crate) fn draw(&self) -> u64 {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// An id that no other request gets.
    pub(crate) fn request_id(&self) -> RequestId {
        RequestId(self.rng.lock().unwrap_or_else(PoisonError::into_inner).next_u128())
    }

    /// Runs `tokenise` on `bytes` bytes of text, away from the sockets when that takes long. A text that cannot fit the
    /// context, whatever its tokens are, is not even tried.
    ///
    /// # Errors
    /// What `tokenise` says, or that the text is too long.
    pub(crate) async fn tokenise<T, F>(
        self: &Arc<Self>,
        bytes: usize,
        tokenise: F,
    ) -> Result<T, RequestError>
    where
        T: Send + 'static,
        F: FnOnce(&ServedModel) -> Result<T, TokenizerError> + Send + 'static,
    {
        self.check_length(bytes)?;
        let result = if bytes < LONG_TEXT_BYTES {
            tokenise(&self.model)
        } else {
            let busy = |_| RequestError::new(ErrorCode::Overloaded, "too many long texts at once");
            let turn = Arc::clone(&self.long_texts).acquire_owned();
            let turn = tokio::time::timeout(LONG_TEXT_TIMEOUT, turn).await.map_err(busy)?;
            let app = Arc::clone(self);
            let lost = |_| RequestError::new(ErrorCode::Internal, "the tokeniser stopped");
            // The turn ends with the work, also when nobody waits for it any more.
            let work = move || {
                let _turn = turn;
                tokenise(&app.model)
            };
            tokio::task::spawn_blocking(work).await.map_err(lost)?
        };
        result.map_err(|error| RequestError::new(ErrorCode::InvalidRequest, error.to_string()))
    }

    fn check_length(&self, bytes: usize) -> Result<(), RequestError> {
        let max_model_len = self.max_model_len();
        let longest = self.model.tokenizer.longest_token_bytes();
        if bytes / longest.max(1) < max_model_len as usize {
            return Ok(());
        }
        Err(RequestError {
            code: ErrorCode::ContextLengthExceeded,
            message: format!(
                "a text of {bytes} bytes has more tokens than this model's context of {max_model_len}"
            ),
            param: None,
        })
    }
}

fn all_places_taken() -> RequestError {
    RequestError::new(ErrorCode::Overloaded, "too many requests are in work")
}

/// Counts a request that was not let in.
pub(crate) fn turned_away(endpoint: &'static str, error: &RequestError) {
    answered(endpoint, error.code.as_str());
}

fn answered(endpoint: &'static str, code: &'static str) {
    metrics::counter!(catalogue::REQUESTS.name, "endpoint" => endpoint, "code" => code)
        .increment(1);
}

/// A request in work. Counted when it is dropped, whatever ended it.
#[derive(Debug)]
pub(crate) struct Admitted {
    _place: OwnedSemaphorePermit,
    metrics: RouterMetrics,
    endpoint: &'static str,
    /// When it came.
    pub(crate) arrived: Instant,
    code: Option<&'static str>,
}

impl Admitted {
    /// How it ended. Without this it counts as cancelled: the client went away.
    pub(crate) fn ended(&mut self, error: Option<&RequestError>) {
        self.code = Some(error.map_or("ok", |error| error.code.as_str()));
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.metrics.running.decrement(1.0);
        let code = self.code.unwrap_or(ErrorCode::Cancelled.as_str());
        answered(self.endpoint, code);
        metrics::histogram!(catalogue::REQUEST_SECONDS.name, "endpoint" => self.endpoint)
            .record(self.arrived.elapsed());
    }
}
