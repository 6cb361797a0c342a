//! The sending process, which measures.

use crate::Fallible;
use crate::workload::{BATCH, Tables, WARM, bytes_of, layout, stamp};
use estafette_kernels::{KvCache, KvMemory, checksum, copy_with_checksum};
use estafette_kv_transfer::{
    FirstToken, PushOutcome, PushRequest, Pusher, PusherLimits, TransportChoice,
};
use estafette_proto::v1::KvEndpoint;
use estafette_types::{BlockId, Incarnation, TransferId};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
/// Measures `rounds` batches of each kind, in turns.
pub(crate) async fn run(rounds: u128) -> Fallible<()> {
    let source = KvCache::new(layout().kv, false)?;
    let beside = KvCache::new(layout().kv, true)?;
    stamp(source.memory());
    let tables = Tables::new();
    let mut other = Other::start()?;
    let mut plain = Plain { stream: TcpStream::connect(&other.plain)?, batch: 0 };
    plain.stream.set_nodelay(true)?;
    let mut shm = Pushing::new(&source, &other.endpoint, TransportChoice::Shm);
    let mut tcp = Pushing::new(&source, &other.endpoint, TransportChoice::Tcp);
    let mut samples: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..WARM + rounds {
        let times = [
            ("memcpy", memcpy(source.memory(), beside.memory(), &tables, round)),
            ("memcpy and checksum", copy(source.memory(), beside.memory(), &tables, round)),
            ("checksum", checksums(source.memory(), &tables, round)),
            ("shm", shm.batch(2 * round, &tables).await?),
            ("socket", plain.send(source.memory(), &tables)?),
            ("tcp", tcp.batch(2 * round + 1, &tables).await?),
        ];
        if round >= WARM {
            for (name, time) in times {
                samples.entry(name).or_default().push(time.as_secs_f64());
            }
        }
    }
    // The end of its input ends it.
    drop(other.process.stdin.take());
    other.process.wait()?;
    println!("{samples:?}");
    Ok(())
}

/// The receiving process.
struct Other {
    process: Child,
    endpoint: KvEndpoint,
    plain: String,
}

impl Other {
    fn start() -> Fallible<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("receive")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [tcp, unix, plain] = words[..] else { return Err("it did not start".into()) };
        let endpoint = KvEndpoint {
            worker_id: "bench".into(),
            incarnation: 1,
            tcp: tcp.into(),
            unix_socket: unix.into(),
        };
        Ok(Self { process, endpoint, plain: plain.into() })
    }
}

struct Pushing {
    pusher: Pusher,
    outcomes: mpsc::Receiver<PushOutcome>,
    endpoint: KvEndpoint,
}

impl Pushing {
    fn new(source: &KvCache, endpoint: &KvEndpoint, transport: TransportChoice) -> Self {
        let limits = PusherLimits { transport, ..PusherLimits::default() };
        let memory = source.memory().clone();
        let (pusher, outcomes) = Pusher::new(memory, layout(), Incarnation(2), limits);
        Self { pusher, outcomes, endpoint: endpoint.clone() }
    }

    async fn batch(&mut self, batch: u128, tables: &Tables) -> Fallible<Duration> {
        let started = Instant::now();
        let handle = self.pusher.start(PushRequest {
            transfer: TransferId(batch),
            endpoint: self.endpoint.clone(),
            table: tables.source(batch).iter().map(|&block| BlockId(block)).collect(),
            deadline: started + Duration::from_secs(30),
        })?;
        handle.ready(0, 0..BATCH);
        handle.commit(FirstToken { token: 0, logprob: None });
        self.outcomes.recv().await.ok_or("no outcome")?.result?;
        Ok(started.elapsed())
    }
}

struct Plain {
    stream: TcpStream,
    batch: u128,
}

impl Plain {
    fn send(&mut self, source: &KvMemory, tables: &Tables) -> Fallible<Duration> {
        let started = Instant::now();
        for &block in tables.source(self.batch) {
            self.stream.write_all(block_of(source, block))?;
        }
        self.stream.read_exact(&mut [0])?;
        self.batch += 1;
        Ok(started.elapsed())
    }
}

#[expect(unsafe_code, reason = "a pool is raw memory")]
fn block_of(memory: &KvMemory, block: u32) -> &[u8] {
    // SAFETY: nobody writes the source pool after it has been stamped.
    unsafe { memory.slice(bytes_of(block)) }
}

#[expect(unsafe_code, reason = "a pool is raw memory")]
fn memcpy(from: &KvMemory, to: &Arc<KvMemory>, tables: &Tables, batch: u128) -> Duration {
    let started = Instant::now();
    for (&source, &target) in tables.source(batch).iter().zip(tables.target(batch)) {
        // SAFETY: nobody else knows this pool.
        let target = unsafe { to.slice_mut(bytes_of(target)) };
        target.copy_from_slice(block_of(from, source));
    }
    started.elapsed()
}

#[expect(unsafe_code, reason = "a pool is raw memory")]
fn copy(from: &KvMemory, to: &Arc<KvMemory>, tables: &Tables, batch: u128) -> Duration {
    let started = Instant::now();
    for (&source, &target) in tables.source(batch).iter().zip(tables.target(batch)) {
        // SAFETY: nobody else knows this pool.
        let target = unsafe { to.slice_mut(bytes_of(target)) };
        black_box(copy_with_checksum(block_of(from, source), target));
    }
    started.elapsed()
}

fn checksums(source: &KvMemory, tables: &Tables, batch: u128) -> Duration {
    let started = Instant::now();
    for &block in tables.source(batch) {
        black_box(checksum(block_of(source, block)));
    }
    started.elapsed()
}
