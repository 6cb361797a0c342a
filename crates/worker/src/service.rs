//! The gRPC services of a worker. They check what arrives, hand it to the engine's thread and carry back
//! what that thread says.

use crate::command::{Command, CommandSender, Leg, LegStart, put};
use crate::identity::Identity;
use crate::pulse::Pulse;
use estafette_proto::{hashes_from_bytes, status, v1};
use estafette_types::{ErrorCode, Limits, Role, SamplingParams, SequenceId, TransferId};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::TrySendError;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// A subscriber may lag this many updates behind before it is cut off.
const STATE_QUEUE: usize = 1024;
/// How often a subscriber hears that the worker is there.
const TICK: Duration = Duration::from_secs(1);
/// The first message of a stream must come within this time.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// No leg may take longer, whatever the request says.
const LEG_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Serves `Worker` and `WorkerState` in front of one engine thread.
#[derive(Debug)]
pub(crate) struct WorkerService<T> {
    identity: Arc<Identity>,
    commands: CommandSender<T>,
    pulse: Pulse,
    /// Takes one wish to drain, with its grace.
    drains: mpsc::Sender<Duration>,
    next_sequence: Arc<AtomicU64>,
}

impl<T> Clone for WorkerService<T> {
    fn clone(&self) -> Self {
        Self {
            identity: Arc::clone(&self.identity),
            commands: self.commands.clone(),
            pulse: self.pulse.clone(),
            drains: self.drains.clone(),
            next_sequence: Arc::clone(&self.next_sequence),
        }
    }
}

impl<T: Send + 'static> WorkerService<T> {
    pub(crate) fn new(
        identity: Arc<Identity>,
        commands: CommandSender<T>,
        pulse: Pulse,
        drains: mpsc::Sender<Duration>,
    ) -> Self {
        Self { identity, commands, pulse, drains, next_sequence: Arc::new(AtomicU64::new(1)) }
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity)
    }

    pub(crate) fn commands(&self) -> CommandSender<T> {
        self.commands.clone()
    }

    fn send(&self, command: Command<T>) -> Result<(), Status> {
        self.commands.try_send(command).map_err(|e| match e {
            TrySendError::Full(_) => status(ErrorCode::Overloaded, "the worker's queue is full"),
            TrySendError::Disconnected(_) => status(ErrorCode::Draining, "the worker has stopped"),
        })
    }

    /// Checks `start` and gives it a place for its tokens.
    pub(crate) fn leg(
        &self,
        start: v1::RunStart,
    ) -> Result<(LegStart, mpsc::Receiver<Result<v1::RunEvent, Status>>), Status> {
        let invalid = |text: String| status(ErrorCode::InvalidRequest, text);
        let vocab = self.identity.vocab_size;
        if let Some(token) = start.prompt.iter().chain(&start.output).find(|&&t| t >= vocab) {
            return Err(invalid(format!("token id {token} is not below the vocabulary's {vocab}")));
        }
        if start.max_tokens == 0 {
            return Err(invalid("`max_tokens` must be at least 1".into()));
        }
        let hashes = hashes_from_bytes(&start.block_hashes).map_err(|e| invalid(e.to_string()))?;
        let given = start.prompt.len() + start.output.len();
        let full_blocks = given / self.identity.block_size as usize;
        if hashes.len() != full_blocks {
            let found = hashes.len();
            return Err(invalid(format!("{found} block hashes for {full_blocks} full blocks")));
        }
        let sampling = start.sampling.unwrap_or_default();
        let params = SamplingParams::try_from(sampling).map_err(|e| invalid(e.to_string()))?;
        let leg = self.leg_kind(start.leg)?;
        // One event for each token, and the last one.
        let longest = start.max_tokens.min(self.identity.max_model_len) as usize;
        let (events, receiver) = mpsc::channel(longest + 2);
        let timeout = Duration::from_millis(start.timeout_ms.into()).min(LEG_TIMEOUT_MAX);
        let leg = LegStart {
            id: SequenceId(self.next_sequence.fetch_add(1, Ordering::Relaxed)),
            prompt: start.prompt,
            output: start.output,
            hashes,
            params,
            limits: Limits {
                max_tokens: start.max_tokens,
                stop_token_ids: start.stop_token_ids,
                ignore_eos: start.ignore_eos,
            },
            leg,
            deadline: Instant::now() + timeout,
            events,
        };
        Ok((leg, receiver))
    }

    fn leg_kind(&self, leg: Option<v1::run_start::Leg>) -> Result<Leg, Status> {
        let transfer = |bytes: &[u8]| {
            TransferId::from_bytes(bytes).ok_or_else(|| {
                status(ErrorCode::InvalidRequest, "`transfer_id` must have 16 bytes")
            })
        };
        let leg = match leg {
            Some(v1::run_start::Leg::Aggregated(_)) => Leg::Aggregated,
            Some(v1::run_start::Leg::Decode(d)) => {
                Leg::Decode { transfer: transfer(&d.transfer_id)? }
            }
            Some(v1::run_start::Leg::Prefill(p)) => Leg::Prefill {
                transfer: transfer(&p.transfer_id)?,
                decode: p.decode.ok_or_else(|| {
                    status(ErrorCode::InvalidRequest, "`decode`, the place for the KV, is missing")
                })?,
            },
            None => return Err(status(ErrorCode::InvalidRequest, "`leg` is missing")),
        };
        let role = self.identity.role;
        if matches!(leg, Leg::Prefill { .. }) != (role == Role::Prefill) {
            return Err(status(
                ErrorCode::InvalidRequest,
                format!("a {role} worker does not run this leg"),
            ));
        }
        Ok(leg)
    }
}

type EventStream<E> = Pin<Box<dyn Stream<Item = Result<E, Status>> + Send>>;

#[tonic::async_trait]
impl<T: Send + 'static> v1::worker_server::Worker for WorkerService<T> {
    type RunStream = EventStream<v1::RunEvent>;

    async fn run(
        &self,
        request: Request<Streaming<v1::RunInput>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let mut input = request.into_inner();
        let first = tokio::time::timeout(START_TIMEOUT, input.message())
            .await
            .map_err(|_| status(ErrorCode::DeadlineExceeded, "`start` did not come in time"))??;
        let Some(v1::run_input::Input::Start(start)) = first.and_then(|m| m.input) else {
            return Err(status(ErrorCode::InvalidRequest, "the first message must be `start`"));
        };
        let (leg, events) = self.leg(start)?;
        let id = leg.id;
        self.send(Command::Start(Box::new(leg)))?;
        // Dropped with the answer's stream, which wakes the other end.
        let (answered, gone) = oneshot::channel::<()>();
        let commands = self.commands.clone();
        tokio::spawn(async move {
            tokio::select! {
                // Any further message, the end of the stream and its breaking all mean: stop.
                _ = input.message() => {}
                _ = gone => {}
            }
            // Harmless when it has ended.
            put(&commands, Command::Cancel(id)).await;
        });
        let answer = ReceiverStream::new(events).map(move |event| {
            let _with_the_stream = &answered;
            event
        });
        Ok(Response::new(Box::pin(answer)))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRequest>,
    ) -> Result<Response<v1::DrainReply>, Status> {
        let grace = Duration::from_millis(request.into_inner().grace_ms).min(LEG_TIMEOUT_MAX);
        // A second wish changes nothing.
        let _ = self.drains.try_send(grace);
        Ok(Response::new(v1::DrainReply {}))
    }
}

#[tonic::async_trait]
impl<T: Send + 'static> v1::worker_state_server::WorkerState for WorkerService<T> {
    type SubscribeStream = EventStream<v1::StateUpdate>;

    async fn subscribe(
        &self,
        _request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (sender, receiver) = mpsc::channel(STATE_QUEUE);
        tokio::spawn(tick(sender.downgrade(), self.pulse.clone()));
        self.send(Command::Subscribe(sender))?;
        let incarnation = self.identity.incarnation.0;
        // The engine's thread knows nothing of numbers: the stream counts its own messages.
        let mut seq = 0;
        let updates = ReceiverStream::new(receiver).map(move |update| {
            update.map(|mut update: v1::StateUpdate| {
                update.incarnation = incarnation;
                update.seq = seq;
                seq += 1;
                update
            })
        });
        Ok(Response::new(Box::pin(updates)))
    }
}

/// Tells a subscriber each second that the worker is there and how long the engine has been at what it does, which the
/// engine's thread cannot say itself meanwhile. Ends with the subscription.
async fn tick(subscriber: mpsc::WeakSender<Result<v1::StateUpdate, Status>>, pulse: Pulse) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(subscriber) = subscriber.upgrade() else { return };
        let still = pulse.still_for(Instant::now()).as_millis();
        let still_ms = u32::try_from(still).unwrap_or(u32::MAX);
        let body = Some(v1::state_update::Body::Tick(v1::Tick { still_ms }));
        // Whoever has a full queue unread hears enough.
        drop(subscriber.try_send(Ok(v1::StateUpdate { body, ..Default::default() })));
    }
}
