//! The receiving process: a pool that takes batches through the hand-off, and from a plain socket.

use crate::Fallible;
use crate::workload::{BATCH, Tables, WARM, bytes_of, is_stamped, layout};
use estafette_kernels::{KvCache, KvMemory};
use estafette_kv_transfer::{Receiver, ReceiverEvent, ReceiverLimits};
use estafette_types::{BlockId, Incarnation, SequenceId, TransferId};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches that one run may have.
const BATCHES_MAX: u128 = 200;

/// Says where it listens and takes batches until standard input ends.
#[expect(clippy::print_stdout, reason = "the sending process reads it")]
pub(crate) async fn run() -> Fallible<()> {
    let pool = KvCache::new(layout().kv, true)?;
    let memory = pool.memory().clone();
    let raw = TcpListener::bind("127.0.0.1:0")?;
    let raw_address = raw.local_addr()?;
    let path = std::env::temp_dir().join(format!("estafette-bench-{}.sock", std::process::id()));
    let limits =
        ReceiverLimits { transfers_max: BATCHES_MAX as usize, ..ReceiverLimits::default() };
    let (receiver, mut events) = Receiver::bind(
        memory.clone(),
        layout(),
        "127.0.0.1:0".parse()?,
        Some(&path),
        Incarnation(1),
        limits,
        None,
    )
    .await?;
    let deadline = Instant::now() + Duration::from_secs(600);
    for batch in 0..BATCHES_MAX {
        receiver.expect(TransferId(batch), SequenceId(batch as u64), deadline)?;
    }
    let plain = memory.clone();
    std::thread::spawn(move || take_plain(&raw, &plain));
    let mut gone = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    println!("{} {} {raw_address}", receiver.tcp_address(), path.display());
    let tables = Tables::new();
    loop {
        let event = tokio::select! {
            event = events.recv() => event.ok_or("the receiver ended")?,
            _ = &mut gone => return Ok(()),
        };
        match event {
            ReceiverEvent::GrantRequested { transfer, .. } => {
                let target = tables.target(transfer.0).iter().map(|&block| BlockId(block));
                receiver.grant(transfer, &(0..BATCH).zip(target).collect::<Vec<_>>())?;
            }
            ReceiverEvent::Completed { transfer, .. } if transfer.0 < WARM => {
                check(&memory, &tables, transfer.0)?;
            }
            ReceiverEvent::Completed { .. } => {}
            ReceiverEvent::Failed { error, .. } => return Err(error.into()),
        }
    }
}

#[expect(unsafe_code, reason = "a pool is raw memory")]
fn check(memory: &KvMemory, tables: &Tables, batch: u128) -> Fallible<()> {
    for (&from, &to) in tables.source(batch).iter().zip(tables.target(batch)) {
        // SAFETY: the hand-off is complete and the next one has other blocks.
        let bytes = unsafe { memory.slice(bytes_of(to)) };
        if !is_stamped(bytes, from) {
            return Err(format!("block {from} is not in block {to}").into());
        }
    }
    Ok(())
}

/// Reads batches into their blocks and answers each with one byte.
#[expect(unsafe_code, reason = "a pool is raw memory")]
fn take_plain(listener: &TcpListener, memory: &Arc<KvMemory>) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let tables = Tables::new();
    for batch in 0.. {
        for &to in tables.target(batch) {
            // SAFETY: no hand-off runs while a plain batch does.
            stream.read_exact(unsafe { memory.slice_mut(bytes_of(to)) })?;
        }
        stream.write_all(b"!")?;
    }
    Ok(())
}
