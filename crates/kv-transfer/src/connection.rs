//! One connection of the pusher: the shell around [`Sending`].

use crate::faults::{Fault, FaultyLink, Injected};
use crate::link::{Link, Move, ShmLink, TcpLink, Verdict};
use crate::message::{Hello, Message, PART_UNITS_MAX, VERSION};
use crate::pool::Chunk;
use crate::pusher::{PushOutcome, PusherLimits, Slot, TransportChoice};
use crate::same_host::{boot_id, check_peer};
use crate::sending::{PartPlan, SendAction, Sending, Window};
use crate::stream::Stream;
use crate::{HandoffError, HandoffLayout};
use estafette_kernels::KvMemory;
use estafette_proto::v1::KvEndpoint;
use estafette_types::{BlockId, Incarnation, TransferId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep_until, timeout};

/// Messages that were read and not handled yet; more wait in the socket.
const INBOX: usize = 256;
/// A link that has moved nothing for so long lets go of what it can.
const REST_AFTER: Duration = Duration::from_secs(1);

/// What all connections of a pusher share.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) memory: Arc<KvMemory>,
    pub(crate) layout: HandoffLayout,
    pub(crate) incarnation: Incarnation,
    pub(crate) limits: PusherLimits,
}

/// A transfer on its way to the connection.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) transfer: TransferId,
    pub(crate) table: Vec<BlockId>,
    pub(crate) deadline: Instant,
    pub(crate) slot: Arc<Slot>,
    pub(crate) permit: mpsc::OwnedPermit<PushOutcome>,
}

type Running = BTreeMap<TransferId, (Arc<Slot>, mpsc::OwnedPermit<PushOutcome>)>;

struct Attached {
    stream: Arc<Stream>,
    link: Box<dyn Link>,
    window: Window,
}

/// Connects and pushes until the peer goes or the pusher is dropped.
pub(crate) async fn run(
    endpoint: KvEndpoint,
    settings: Arc<Settings>,
    mut starts: mpsc::Receiver<Start>,
    wake: Arc<Notify>,
) {
    let error = match attach(&endpoint, &settings).await {
        Ok(attached) => {
            tracing::debug!(peer = endpoint.worker_id, link = attached.link.kind(), "attached");
            Driver::new(&settings, attached).drive(&mut starts, &wake).await
        }
        Err(error) => error,
    };
    tracing::debug!(peer = endpoint.worker_id, %error, "hand-off connection closed");
    starts.close();
    while let Some(start) = starts.recv().await {
        let result = Err(error.clone());
        start.permit.send(PushOutcome { transfer: start.transfer, result });
    }
}

async fn attach(endpoint: &KvEndpoint, settings: &Settings) -> Result<Attached, HandoffError> {
    let limit = settings.limits.connect_timeout;
    let choice = settings.limits.transport;
    if choice != TransportChoice::Tcp && !endpoint.unix_socket.is_empty() {
        let shm = timeout(limit, attach_shm(endpoint, settings)).await;
        match shm.unwrap_or_else(|_| Err(late())) {
            Err(error @ (HandoffError::PeerGone(_) | HandoffError::Refused(_)))
                if choice == TransportChoice::Auto =>
            {
                tracing::warn!(peer = endpoint.worker_id, %error, "no shared memory, going over tcp");
            }
            attached => return attached,
        }
    } else if choice == TransportChoice::Shm {
        return Err(HandoffError::Refused("it offers no shared memory".into()));
    }
    timeout(limit, attach_tcp(endpoint, settings)).await.unwrap_or_else(|_| Err(late()))
}

fn late() -> HandoffError {
    HandoffError::gone("it does not answer")
}

async fn attach_tcp(endpoint: &KvEndpoint, settings: &Settings) -> Result<Attached, HandoffError> {
    let stream = TcpStream::connect(&endpoint.tcp).await.map_err(HandoffError::gone)?;
    stream.set_nodelay(true).map_err(HandoffError::gone)?;
    let stream = match &settings.limits.tls {
        None => Stream::Tcp(stream),
        Some(tls) => {
            let stream = tls.connect(stream).await.map_err(HandoffError::gone)?;
            Stream::Tls(Box::new(stream.into()))
        }
    };
    let (credit, pool_bytes) = greet(&stream, endpoint, settings, String::new()).await?;
    Ok(attached(settings, stream, Box::new(TcpLink), credit, pool_bytes))
}

async fn attach_shm(endpoint: &KvEndpoint, settings: &Settings) -> Result<Attached, HandoffError> {
    let unix = UnixStream::connect(&endpoint.unix_socket).await.map_err(HandoffError::gone)?;
    check_peer(&unix)?;
    let stream = Stream::Unix(unix);
    let (credit, pool_bytes) = greet(&stream, endpoint, settings, boot_id()).await?;
    let fd = stream.receive_fd().await?;
    let pool = KvMemory::of_peer(fd, pool_bytes as usize)
        .map_err(|error| HandoffError::Refused(format!("cannot use its pool: {error}")))?;
    Ok(attached(settings, stream, Box::new(ShmLink { pool }), credit, pool_bytes))
}

fn attached(
    settings: &Settings,
    stream: Stream,
    link: Box<dyn Link>,
    credit: u64,
    pool_bytes: u64,
) -> Attached {
    let link = match settings.limits.faults.clone() {
        Some(plan) => Box::new(FaultyLink::new(link, plan)),
        None => link,
    };
    let block = settings.layout.kv.block_bytes().max(1) as u64;
    let pool_blocks = u32::try_from(pool_bytes / block).unwrap_or(u32::MAX);
    let part = settings.limits.part_bytes.min(usize::try_from(credit / 2).unwrap_or(usize::MAX));
    let window = Window { credit, part, units: PART_UNITS_MAX, pool_blocks };
    Attached { stream: Arc::new(stream), link, window }
}

/// Says who we are and learns the peer's credit and the size of its pool.
async fn greet(
    stream: &Stream,
    endpoint: &KvEndpoint,
    settings: &Settings,
    boot_id: String,
) -> Result<(u64, u64), HandoffError> {
    let receiver = Incarnation(endpoint.incarnation);
    let hello = Hello {
        version: VERSION,
        sender: settings.incarnation,
        receiver,
        layout: settings.layout.clone(),
        boot_id,
    };
    stream.send(&Message::Hello(hello), &[], settings.limits.io_timeout).await?;
    match stream.receive(settings.limits.io_timeout).await? {
        Message::Welcome { receiver: found, credit_bytes, pool_bytes } if found == receiver => {
            Ok((credit_bytes, pool_bytes))
        }
        Message::Welcome { .. } => Err(HandoffError::StalePeer),
        Message::Reject(error) => Err(error),
        _ => Err(HandoffError::protocol("the answer to a hello is not a welcome")),
    }
}

struct Driver<'a> {
    settings: &'a Settings,
    stream: Arc<Stream>,
    link: Box<dyn Link>,
    sending: Sending,
    running: Running,
    injected: Injected,
}

impl<'a> Driver<'a> {
    fn new(settings: &'a Settings, attached: Attached) -> Self {
        let sending = Sending::new(settings.layout.clone(), attached.window);
        let Attached { stream, link, .. } = attached;
        Self {
            settings,
            stream,
            link,
            sending,
            running: Running::new(),
            injected: Injected::default(),
        }
    }

    /// Runs until the connection ends; every transfer has its outcome then.
    async fn drive(mut self, starts: &mut mpsc::Receiver<Start>, wake: &Notify) -> HandoffError {
        let (inbox, mut messages) = mpsc::channel(INBOX);
        let reader = read_all(self.stream.clone(), self.settings.limits.io_timeout, inbox);
        let reader = tokio::spawn(reader).abort_handle();
        let (mut open, mut rested) = (true, true);
        let error = loop {
            if let Err(error) = self.act(&mut messages).await {
                break error;
            }
            if !open && self.running.is_empty() {
                break HandoffError::gone("nothing is left to push");
            }
            let idle = if rested { Duration::from_secs(60) } else { REST_AFTER };
            let next =
                self.sending.next_wakeup().into_iter().chain(self.injected.next_wakeup()).min();
            let next = next.unwrap_or_else(|| Instant::now() + idle);
            tokio::select! {
                start = starts.recv(), if open => match start {
                    Some(start) => {
                        rested = false;
                        self.begin(start);
                    }
                    None => open = false,
                },
                message = messages.recv() => {
                    if let Err(error) = self.heard(message) {
                        break error;
                    }
                }
                () = wake.notified() => {}
                () = sleep_until(next.into()) => {
                    if self.running.is_empty() && !rested {
                        rested = true;
                        self.link.rest();
                    }
                }
            }
        };
        reader.abort();
        self.sending.close(&error);
        while let Some(action) = self.sending.poll_action() {
            if let SendAction::Outcome(transfer, result) = action {
                self.outcome(transfer, result);
            }
        }
        error
    }

    /// Does everything there is to do, taking in what comes meanwhile.
    async fn act(
        &mut self,
        messages: &mut mpsc::Receiver<Result<Message, HandoffError>>,
    ) -> Result<(), HandoffError> {
        loop {
            self.injected.flush(&self.stream, self.settings.limits.io_timeout).await?;
            self.listen();
            self.sending.on_time(Instant::now());
            while let Ok(message) = messages.try_recv() {
                self.heard(Some(message))?;
            }
            match self.sending.poll_action() {
                None => return Ok(()),
                Some(SendAction::Message(message)) => self.send(&message, &[]).await?,
                Some(SendAction::Part(plan)) => self.send_part(&plan).await?,
                Some(SendAction::Outcome(transfer, result)) => self.outcome(transfer, result),
            }
        }
    }

    fn begin(&mut self, start: Start) {
        let Start { transfer, table, deadline, slot, permit } = start;
        if self.running.contains_key(&transfer) {
            let result = Err(HandoffError::protocol("the transfer is already running"));
            permit.send(PushOutcome { transfer, result });
            return;
        }
        self.running.insert(transfer, (slot, permit));
        self.sending.start(Instant::now(), transfer, table, deadline);
    }

    /// Takes in what the engine said.
    fn listen(&mut self) {
        for (transfer, (slot, _)) in &self.running {
            let said = slot.take();
            for (group, blocks) in said.ready {
                self.sending.ready(*transfer, group, blocks);
            }
            if let Some(first_token) = said.commit {
                self.sending.commit(*transfer, first_token);
            }
            if said.aborted {
                self.sending.abort(*transfer);
            }
        }
    }

    fn heard(
        &mut self,
        message: Option<Result<Message, HandoffError>>,
    ) -> Result<(), HandoffError> {
        let message = message.unwrap_or_else(|| Err(HandoffError::gone("its reader stopped")))?;
        match self.link.hears(&message) {
            Verdict::Fault(Fault::Drop) => return Ok(()),
            Verdict::Fault(Fault::Repeat) => {
                self.sending.on_message(Instant::now(), message.clone())?;
            }
            Verdict::Fault(_) | Verdict::Send => {}
        }
        self.sending.on_message(Instant::now(), message)
    }

    fn outcome(&mut self, transfer: TransferId, result: Result<crate::PushStats, HandoffError>) {
        if let Some((_, permit)) = self.running.remove(&transfer) {
            permit.send(PushOutcome { transfer, result });
        }
    }

    async fn send_part(&mut self, plan: &PartPlan) -> Result<(), HandoffError> {
        let layout = &self.settings.layout;
        let moves: Vec<Move> = plan
            .blocks
            .iter()
            .map(|(from, to)| Move {
                from: Chunk::new(&self.settings.memory, layout.unit_range(*from, plan.group)),
                to: layout.unit_range(*to, plan.group),
            })
            .collect();
        let placed = self.link.place(moves).map_err(HandoffError::gone)?;
        self.send(&Message::Part(plan.header(placed.checksums)), &placed.follow).await
    }

    async fn send(&mut self, message: &Message, chunks: &[Chunk]) -> Result<(), HandoffError> {
        let limit = self.settings.limits.io_timeout;
        let fault = match self.link.verdict(message) {
            Verdict::Send => None,
            Verdict::Fault(fault) => Some(fault),
        };
        self.injected.send(fault, &self.stream, message, chunks, limit).await
    }
}

async fn read_all(
    stream: Arc<Stream>,
    limit: Duration,
    inbox: mpsc::Sender<Result<Message, HandoffError>>,
) {
    loop {
        let message = stream.receive(limit).await;
        let last = message.is_err();
        if inbox.send(message).await.is_err() || last {
            return;
        }
    }
}
