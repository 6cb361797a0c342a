//! The receiving side's shell: sockets, tasks and the clock around [`Receiving`].

use crate::accept::{accept_tcp, accept_unix};
use crate::message::Message;
use crate::receiving::{ConnId, ReceiveAction, Receiving};
use crate::{HandoffError, HandoffLayout, ReceiverEvent, ReceiverLimits};
use estafette_kernels::KvMemory;
use estafette_security::Tls;
use estafette_types::{BlockId, Incarnation, SequenceId, TransferId};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep_until;

/// Messages that may wait for one connection; a peer that reads too slowly loses the connection.
const OUTBOX: usize = 1024;
/// How often events are offered again to an engine that does not take them.
const RETRY: Duration = Duration::from_millis(5);

/// Takes blocks from prefill workers into a decode worker's pool. Dropping it closes every connection.
/// The calls do not block and may come from any thread.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
    unix_path: Option<PathBuf>,
    _open: watch::Sender<()>,
}

/// Whether anyone can still write to the blocks of a revoked transfer, and what is in them.
#[derive(Debug)]
pub struct Revocation {
    fence: Option<watch::Receiver<bool>>,
    verified_blocks: u32,
}

impl Revocation {
    /// True when the blocks may be reused.
    pub fn is_safe(&self) -> bool {
        self.fence.as_ref().is_none_or(|fenced| *fenced.borrow() || fenced.has_changed().is_err())
    }

    /// If this call ended the transfer: so many leading blocks of the prompt were verified, as in
    /// [`ReceiverEvent::Failed`].
    pub fn verified_blocks(&self) -> u32 {
        self.verified_blocks
    }

    /// Waits at most `limit` until the blocks may be reused; false when they still may not.
    pub async fn wait(&mut self, limit: Duration) -> bool {
        let Some(fenced) = self.fence.as_mut() else { return true };
        let waited = tokio::time::timeout(limit, fenced.wait_for(|fenced| *fenced)).await;
        waited.is_ok_and(|fenced| fenced.is_ok())
    }
}

/// What the tasks of a receiver share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) layout: HandoffLayout,
    pub(crate) memory: Arc<KvMemory>,
    pub(crate) incarnation: Incarnation,
    pub(crate) limits: ReceiverLimits,
    wake: Notify,
    events: mpsc::Sender<ReceiverEvent>,
}

#[derive(Debug)]
struct State {
    receiving: Receiving,
    connections: BTreeMap<ConnId, mpsc::Sender<Message>>,
    fences: BTreeMap<TransferId, watch::Sender<bool>>,
    untold: VecDeque<ReceiverEvent>,
    last_connection: ConnId,
}

impl Receiver {
    /// Listens on `tcp` (port 0 takes a free one) and, for workers of the same host, on a Unix socket at
    /// `unix_path`, which needs a shared pool. Must be called inside a tokio runtime. The returned queue
    /// must be read. With `tls` only those who show a certificate of the cluster get in over TCP.
    ///
    /// # Errors
    /// When an address cannot be had, or a Unix socket is asked for a pool that cannot be shared.
    pub async fn bind(
        memory: Arc<KvMemory>,
        layout: HandoffLayout,
        tcp: SocketAddr,
        unix_path: Option<&Path>,
        incarnation: Incarnation,
        limits: ReceiverLimits,
        tls: Option<Tls>,
    ) -> io::Result<(Self, mpsc::Receiver<ReceiverEvent>)> {
        if layout.kv.total_bytes() > memory.len() || layout.layers_per_group == 0 {
            return Err(io::Error::other("the KV layout does not fit the pool"));
        }
        let listener = TcpListener::bind(tcp).await?;
        let address = listener.local_addr()?;
        let unix = unix_path.map(|path| bind_unix(path, &memory)).transpose()?;
        let (events, queue) = mpsc::channel(limits.transfers_max.max(1));
        let state = State {
            receiving: Receiving::new(layout.clone(), limits),
            connections: BTreeMap::new(),
            fences: BTreeMap::new(),
            untold: VecDeque::new(),
            last_connection: 0,
        };
        let state = Mutex::new(state);
        let wake = Notify::new();
        let shared = Arc::new(Shared { state, layout, memory, incarnation, limits, wake, events });
        let (open, closed) = watch::channel(());
        tokio::spawn(accept_tcp(listener, tls, shared.clone(), closed.clone()));
        if let Some(unix) = unix {
            tokio::spawn(accept_unix(unix, shared.clone(), closed.clone()));
        }
        tokio::spawn(keep_time(shared.clone(), closed));
        let unix_path = unix_path.map(Path::to_owned);
        Ok((Self { shared, address, unix_path, _open: open }, queue))
    }

    /// Where it listens.
    pub fn tcp_address(&self) -> SocketAddr {
        self.address
    }

    /// The decode leg of `transfer` is here and waits until `deadline`; every event about it names `sequence`.
    ///
    /// # Errors
    /// When as many transfers as allowed are running, or this one is, for another leg; no event will follow.
    pub fn expect(
        &self,
        transfer: TransferId,
        sequence: SequenceId,
        deadline: Instant,
    ) -> Result<(), HandoffError> {
        self.shared.with(|receiving| receiving.expect(transfer, sequence, deadline))
    }

    /// Answers [`ReceiverEvent::GrantRequested`]: the sender may write these blocks of the prompt (logical
    /// index, block of this pool). None at all is fine: then only the first token is awaited. The blocks
    /// belong to the transfer until it completes or [`revoke`](Self::revoke) says that they are free.
    ///
    /// # Errors
    /// When the transfer has ended meanwhile or the blocks are not valid; then nothing was granted.
    pub fn grant(
        &self,
        transfer: TransferId,
        blocks: &[(u32, BlockId)],
    ) -> Result<(), HandoffError> {
        self.shared.with(|receiving| receiving.grant(Instant::now(), transfer, blocks))
    }

    /// Answers [`ReceiverEvent::GrantRequested`] with no. No event follows.
    pub fn refuse(&self, transfer: TransferId, error: &HandoffError) {
        self.shared.with(|receiving| {
            receiving.cancel(transfer, error);
        });
    }

    /// Ends `transfer` if it is not over yet, and tells when its blocks may be reused. Call it also after
    /// [`ReceiverEvent::Failed`]. No event follows.
    pub fn revoke(&self, transfer: TransferId) -> Revocation {
        self.shared.revoke(transfer)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(path) = &self.unix_path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Shared {
    /// Runs `f` on the state machine, then carries out what it asks for.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Receiving) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut state.receiving);
        self.carry_out(&mut state);
        self.wake.notify_one();
        result
    }

    fn carry_out(&self, state: &mut State) {
        while let Some(action) = state.receiving.poll_action() {
            match action {
                ReceiveAction::Send(conn, message) => {
                    let outbox = state.connections.get(&conn);
                    if outbox.is_some_and(|outbox| outbox.try_send(message).is_err()) {
                        state.connections.remove(&conn);
                    }
                }
                ReceiveAction::Event(event) => state.untold.push_back(event),
                ReceiveAction::Fenced(transfer) => {
                    if let Some(fence) = state.fences.remove(&transfer) {
                        fence.send_replace(true);
                    }
                }
            }
        }
        while let Some(event) = state.untold.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                state.untold.push_front(event);
                break;
            }
        }
    }

    fn revoke(&self, transfer: TransferId) -> Revocation {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let verified_blocks = state.receiving.cancel(transfer, &HandoffError::Aborted);
        self.carry_out(&mut state);
        if !state.receiving.is_revoking(transfer) {
            return Revocation { fence: None, verified_blocks };
        }
        let fence = state.fences.entry(transfer).or_insert_with(|| watch::channel(false).0);
        Revocation { fence: Some(fence.subscribe()), verified_blocks }
    }

    /// A new connection, or `None` when there are too many.
    pub(crate) fn open(&self) -> Option<(ConnId, mpsc::Receiver<Message>)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.connections.len() >= self.limits.connections_max {
            return None;
        }
        state.last_connection += 1;
        let conn = state.last_connection;
        let (outbox, messages) = mpsc::channel(OUTBOX);
        state.connections.insert(conn, outbox);
        Some((conn, messages))
    }

    /// Gives a sender its credit back.
    pub(crate) fn acknowledge(&self, conn: ConnId, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outbox = state.connections.get(&conn);
        if outbox.is_some_and(|outbox| outbox.try_send(Message::Ack { bytes }).is_err()) {
            state.connections.remove(&conn);
        }
    }

    /// Forgets the connection's queue: its writing task ends once the queue is empty.
    pub(crate) fn close(&self, conn: ConnId) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).connections.remove(&conn);
    }

    fn next_wakeup(&self) -> Instant {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = state.receiving.next_wakeup().unwrap_or(now + Duration::from_secs(60));
        if state.untold.is_empty() { at } else { at.min(now + RETRY) }
    }
}

fn bind_unix(path: &Path, memory: &KvMemory) -> io::Result<UnixListener> {
    if memory.fd().is_none() {
        return Err(io::Error::other("a private KV pool cannot be handed out on a unix socket"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

async fn keep_time(shared: Arc<Shared>, mut closed: watch::Receiver<()>) {
    loop {
        let at = shared.next_wakeup();
        tokio::select! {
            () = sleep_until(at.into()) => {
                shared.with(|receiving| receiving.on_time(Instant::now()));
            }
            () = shared.wake.notified() => {}
            _ = closed.changed() => return,
        }
    }
}
