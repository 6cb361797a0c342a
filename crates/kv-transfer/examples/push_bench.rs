//! Speed of a 1,500-token prompt's hand-off inside one process: `cargo run --release --example push_bench`.

use estafette_kernels::{KvLayout, KvMemory};
use estafette_kv_transfer::{
    FirstToken, HandoffLayout, PushRequest, Pusher, PusherLimits, Receiver, ReceiverEvent,
    ReceiverLimits, TransportChoice,
};
use estafette_proto::v1::KvEndpoint;
use estafette_security::Tls;
use estafette_security::testing::{Authority, Folder};
use estafette_types::{BlockId, Incarnation, TransferId};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BLOCKS: u32 = 94;
const ROUNDS: u128 = 40;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Folder::new(&std::env::temp_dir());
    let tls = Tls::load(Authority::new().member(folder.path()))?;
    let ways = [
        ("tcp", TransportChoice::Tcp, None),
        ("tcp with tls", TransportChoice::Tcp, Some(tls)),
        ("shared memory", TransportChoice::Shm, None),
    ];
    for (name, transport, tls) in ways {
        let (bytes, mut times) = measure(transport, tls).await?;
        println_result(name, bytes, &mut times);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn println_result(name: &str, bytes: usize, times: &mut [Duration]) {
    times.sort();
    let (best, median) = (times[0], times[times.len() / 2]);
    let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{name}: {:.1} MB, median {median:.2?} ({:.2} GB/s), best {best:.2?} ({:.2} GB/s)",
        bytes as f64 / 1e6,
        rate(median),
        rate(best),
    );
}

async fn measure(
    transport: TransportChoice,
    tls: Option<Tls>,
) -> Result<(usize, Vec<Duration>), Box<dyn Error>> {
    let kv = KvLayout { num_blocks: BLOCKS, block_size: 16, layers: 30, kv_heads: 3, head_dim: 64 };
    let layout = HandoffLayout {
        kv,
        layers_per_group: 5,
        model_digest: Vec::new(),
        numerics_id: String::new(),
    };
    let bytes = kv.total_bytes();
    let source = Arc::new(KvMemory::anonymous(bytes)?);
    let target = Arc::new(KvMemory::shared(bytes)?);
    let path = std::env::temp_dir().join(format!("estafette-bench-{}.sock", std::process::id()));
    let (receiver, mut events) = Receiver::bind(
        target,
        layout.clone(),
        "127.0.0.1:0".parse()?,
        Some(&path),
        Incarnation(1),
        ReceiverLimits::default(),
        tls.clone(),
    )
    .await?;
    let limits = PusherLimits { transport, tls, ..PusherLimits::default() };
    let (pusher, mut outcomes) = Pusher::new(source, layout.clone(), Incarnation(2), limits);
    let endpoint = KvEndpoint {
        worker_id: "bench".into(),
        incarnation: 1,
        tcp: receiver.tcp_address().to_string(),
        unix_socket: path.display().to_string(),
    };
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let deadline = Instant::now() + Duration::from_secs(10);
        let transfer = TransferId(round);
        let table: Vec<BlockId> = (0..BLOCKS).map(BlockId).collect();
        let blocks: Vec<_> = (0..BLOCKS).map(|i| (i, BlockId(BLOCKS - 1 - i))).collect();
        receiver.expect(transfer, deadline)?;
        let started = Instant::now();
        let endpoint = endpoint.clone();
        let handle = pusher.start(PushRequest { transfer, endpoint, table, deadline })?;
        events.recv().await;
        receiver.grant(transfer, &blocks)?;
        for group in 0..layout.groups() {
            handle.ready(group, 0..BLOCKS);
        }
        handle.commit(FirstToken { token: 0, logprob: None });
        match events.recv().await {
            Some(ReceiverEvent::Completed { .. }) => times.push(started.elapsed()),
            other => return Err(format!("not completed: {other:?}").into()),
        }
        outcomes.recv().await.ok_or("no outcome")?.result?;
    }
    Ok((bytes, times))
}
