//! One connection of the receiver.

use crate::HandoffError;
use crate::message::{Hello, Message, Part, VERSION};
use crate::pool::{Chunk, write};
use crate::receiver::Shared;
use crate::receiving::{ConnId, Gate, Placement};
use crate::same_host::{boot_id, send_fd};
use crate::stream::Stream;
use estafette_types::BlockId;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// Bytes that are read while the gate is held: bounds how long shutting it takes.
const READ_MAX: usize = 256 * 1024;

/// Serves one sender until it goes, breaks the protocol, or the receiver closes.
pub(crate) async fn serve(stream: Stream, shared: Arc<Shared>, mut closed: watch::Receiver<()>) {
    let Some((conn, outbox)) = shared.open() else { return };
    tokio::select! {
        () = session(&stream, &shared, conn, outbox) => {}
        _ = closed.changed() => {}
    }
    shared.close(conn);
    shared.with(|receiving| receiving.on_closed(conn));
}

async fn session(stream: &Stream, shared: &Shared, conn: ConnId, outbox: mpsc::Receiver<Message>) {
    let welcomed = timeout(shared.limits.io_timeout, welcome(stream, shared)).await;
    if !matches!(welcomed, Ok(Ok(()))) {
        return;
    }
    let error = tokio::select! {
        error = read_all(stream, shared, conn) => error,
        error = write_all(stream, shared, outbox) => error,
    };
    // Whoever waits for these blocks need not wait for the goodbyes.
    shared.with(|receiving| receiving.on_broken(conn, &error));
    if !matches!(error, HandoffError::PeerGone(_)) {
        tracing::warn!(%error, "closing a hand-off connection");
        let _ = stream.send(&Message::Reject(error), &[], shared.limits.io_timeout).await;
    }
    if let Stream::Unix(unix) = stream {
        // This side's close proves nothing: the sender can still write into the pool. Its close does.
        let _ = rustix::net::shutdown(unix, rustix::net::Shutdown::Write);
        drain(stream).await;
    }
}

/// Waits for the end of the stream.
pub(crate) async fn drain(stream: &Stream) {
    let mut scratch = vec![0; 4096];
    while stream.read_exact(&mut scratch[..1]).await.is_ok() {
        let _ = stream.try_read(&mut scratch);
    }
}

async fn welcome(stream: &Stream, shared: &Shared) -> Result<(), HandoffError> {
    let limit = shared.limits.io_timeout;
    let checked = match stream.receive(limit).await {
        Ok(Message::Hello(hello)) => check(&hello, stream, shared),
        Ok(_) => Err(HandoffError::protocol("the first message is not a hello")),
        Err(error) => Err(error),
    };
    if let Err(error) = checked {
        stream.send(&Message::Reject(error.clone()), &[], limit).await?;
        return Err(error);
    }
    let welcome = Message::Welcome {
        receiver: shared.incarnation,
        credit_bytes: shared.limits.credit_bytes,
        pool_bytes: shared.memory.len() as u64,
    };
    stream.send(&welcome, &[], limit).await?;
    match (stream, shared.memory.fd()) {
        (Stream::Unix(unix), Some(fd)) => send_fd(unix, fd).await,
        _ => Ok(()),
    }
}

fn check(hello: &Hello, stream: &Stream, shared: &Shared) -> Result<(), HandoffError> {
    if hello.version != VERSION {
        return Err(HandoffError::protocol(format!(
            "version {} of the hand-off, not {VERSION}",
            hello.version
        )));
    }
    if hello.receiver != shared.incarnation {
        return Err(HandoffError::StalePeer);
    }
    if stream.is_one_sided() && hello.boot_id != boot_id() {
        return Err(HandoffError::Refused("the unix socket leads to another host".into()));
    }
    shared.layout.matches(&hello.layout)
}

/// Sends what is to be sent until that fails.
async fn write_all(
    stream: &Stream,
    shared: &Shared,
    mut outbox: mpsc::Receiver<Message>,
) -> HandoffError {
    while let Some(message) = outbox.recv().await {
        if let Err(error) = stream.send(&message, &[], shared.limits.io_timeout).await {
            return error;
        }
    }
    HandoffError::gone("it reads too slowly")
}

async fn read_all(stream: &Stream, shared: &Shared, conn: ConnId) -> HandoffError {
    let one_sided = stream.is_one_sided();
    loop {
        let handled = match stream.receive(shared.limits.io_timeout).await {
            Ok(Message::Part(part)) => take_part(stream, shared, conn, &part).await,
            Ok(message) => shared.with(|receiving| {
                receiving.on_message(std::time::Instant::now(), conn, one_sided, message)
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = handled {
            return error;
        }
    }
}

async fn take_part(
    stream: &Stream,
    shared: &Shared,
    conn: ConnId,
    part: &Part,
) -> Result<(), HandoffError> {
    let placement = shared.with(|receiving| receiving.place(conn, part))?;
    if !stream.is_one_sided() {
        let read = read_units(stream, shared, part, &placement);
        match timeout(shared.limits.io_timeout, read).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(HandoffError::gone(error)),
            Err(_) => return Err(HandoffError::gone("it stopped within a part")),
        }
    }
    let bytes = shared.layout.unit_bytes(part.group) * part.checksums.len();
    shared.acknowledge(conn, bytes as u64);
    verify(shared, conn, part, &placement);
    Ok(())
}

/// Reads the bytes of a part into their blocks; those of unwanted units are thrown away.
async fn read_units(
    stream: &Stream,
    shared: &Shared,
    part: &Part,
    placement: &Placement,
) -> io::Result<()> {
    let len = shared.layout.unit_bytes(part.group);
    let mut scratch = Vec::new();
    for to in &placement.to {
        let range = to.map(|block| shared.layout.unit_range(block, part.group));
        let mut filled = 0;
        while filled < len {
            let gate = placement.gate.as_deref();
            let read = match (&range, gate) {
                (Some(range), Some(gate)) => {
                    read_into(stream, shared, gate, range.start + filled..range.end)
                }
                _ => None,
            };
            let read = read.unwrap_or_else(|| {
                scratch.resize(READ_MAX.min(len), 0);
                let most = scratch.len().min(len - filled);
                stream.try_read(&mut scratch[..most])
            });
            match read {
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.readable().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// One read into the pool; `None` when the gate is shut.
fn read_into(
    stream: &Stream,
    shared: &Shared,
    gate: &Gate,
    range: Range<usize>,
) -> Option<io::Result<usize>> {
    let _held = gate.enter()?;
    let end = range.end.min(range.start + READ_MAX);
    write(&shared.memory, range.start..end, |into| stream.try_read(into))
}

/// Compares the checksums of the units that are in their place, and counts them: all of a part at once, since whoever counts wakes
/// the task that keeps the time.
fn verify(shared: &Shared, conn: ConnId, part: &Part, placement: &Placement) {
    let Some(gate) = placement.gate.as_deref() else { return };
    let mut right = Vec::with_capacity(part.checksums.len());
    for ((block, to), checksum) in (part.first_block..).zip(&placement.to).zip(&part.checksums) {
        let Some(to) = to else { continue };
        let Some(found) = checksum_of(shared, gate, *to, part.group) else { break };
        right.push((block, found == *checksum));
    }
    shared.with(|receiving| {
        for (block, right) in right {
            if right {
                receiving.count(conn, part, block);
            } else {
                receiving.corrupt(conn, part, block);
            }
        }
    });
}

fn checksum_of(shared: &Shared, gate: &Gate, block: BlockId, group: u32) -> Option<u64> {
    let _held = gate.enter()?;
    Some(Chunk::new(&shared.memory, shared.layout.unit_range(block, group)).checksum())
}
