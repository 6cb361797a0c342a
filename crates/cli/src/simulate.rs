//! `estafette simulate`: a cluster in virtual time, before it is paid for.

mod progress;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};
use estafette_simulator::{
    ClusterSettings, DEFAULT_PRESET, Experiment, Loads, Policy, Slo, StepTimes, Synthetic,
    Workload, generate, html, preset, preset_names, read, simulate, table,
};
use estafette_types::{ByteSize, parse_duration};
use progress::Progress;
use std::fs;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_POLICIES: &str = "ours,dynamo,llm-d,cache-aware,least-loaded,round-robin";

/// Flags of `estafette simulate`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("traffic").required(true).args(["trace", "synthetic"])))]
pub(crate) struct SimulateArgs {
    /// A trace: Mooncake's JSON lines, Azure's CSV or agent sessions, also packed by xz.
    trace: Option<PathBuf>,
    /// Chats of a generator instead of a trace.
    #[arg(long)]
    synthetic: bool,
    /// Prefill workers; 0 lets decode workers compute their own prompts.
    #[arg(long, default_value_t = 2)]
    prefill: u32,
    /// Decode workers.
    #[arg(long, default_value_t = 2)]
    decode: u32,
    /// Policies to compare, or `all`.
    #[arg(long, value_delimiter = ',', default_value = DEFAULT_POLICIES, value_parser = policy_names())]
    policy: Vec<String>,
    /// Loads as shares of the capacity, which is measured first.
    #[arg(long, value_delimiter = ',', default_value = "0.8", conflicts_with = "speedup")]
    load: Vec<f64>,
    /// Loads as factors on the trace's own rate.
    #[arg(long, value_delimiter = ',')]
    speedup: Vec<f64>,
    /// How often each is run, each time with other arrivals.
    #[arg(long, default_value_t = 3)]
    seeds: u32,
    /// The first of the seeds.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    cluster: ClusterFlags,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    output: OutputFlags,
}

/// The workers and what is between them.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
struct ClusterFlags {
    /// Model and hardware of the workers.
    #[arg(long, default_value = DEFAULT_PRESET, value_parser = PossibleValuesParser::new(preset_names()))]
    preset: String,
    /// Step times from a JSON file instead of a preset.
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    step_times: Option<PathBuf>,
    /// Workers that compute on the same cores, and are slower while others of them compute: the first so many, prefill
    /// workers first, then the next.
    #[arg(long, default_value_t = 1)]
    workers_per_host: u32,
    /// Blocks of a worker's pool; what its memory holds by default.
    #[arg(long)]
    kv_blocks: Option<u32>,
    /// Tokens of a block.
    #[arg(long, default_value_t = 64)]
    block_size: u32,
    /// Rows of a step of prefill workers.
    #[arg(long, default_value_t = 8192)]
    prefill_chunk: u32,
    /// Rows of a step of decode workers.
    #[arg(long, default_value_t = 2048)]
    decode_chunk: u32,
    /// Sequences that run at once on a worker.
    #[arg(long, default_value_t = 256)]
    max_num_seqs: u32,
    /// Sequences that wait on a worker.
    #[arg(long, default_value_t = 256)]
    max_waiting: u32,
    /// How long a message takes between router and worker, or between workers.
    #[arg(long, default_value = "500us", value_parser = parse_duration)]
    message_latency: Duration,
    /// How old cache events and load records are when they reach the router.
    #[arg(long, default_value = "10ms", value_parser = parse_duration)]
    event_delay: Duration,
    /// Share of state updates that are lost, to be replaced by a snapshot.
    #[arg(long, default_value_t = 0.0)]
    event_loss: f64,
    /// What a worker's link carries in a second.
    #[arg(long, default_value = "50GB")]
    link_bandwidth: ByteSize,
    /// Groups of layers that are handed off apart.
    #[arg(long, default_value_t = 16)]
    layer_groups: u32,
    /// A prompt whose KV has not come within this time is computed by the decode worker.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    hand_off_timeout: Duration,
}

/// How much is simulated, and what is promised.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Only the first requests of the trace.
    #[arg(long)]
    requests: Option<usize>,
    /// Only what arrives in the first part of the trace.
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// The first token is to come within this time, …
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    slo_ttft: Duration,
    /// … or within so many times what the prompt takes alone.
    #[arg(long, default_value_t = 3.0)]
    slo_ttft_isolated: f64,
    /// And the others within this time of each other on average.
    #[arg(long, default_value = "50ms", value_parser = parse_duration)]
    slo_itl: Duration,
}

/// Where results go besides the terminal.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
struct OutputFlags {
    /// All figures of all runs.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A page with charts.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The event log of the first policy at the first load, which must be a `--speedup`.
    #[arg(long, value_name = "FILE", requires = "speedup")]
    event_log: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "the table is the command's result")]
pub(crate) fn run(args: SimulateArgs) -> Result<()> {
    let output = args.output.clone();
    let experiment = args.experiment()?;
    let progress = Progress::new();
    let report = experiment.run(&|what, done, all| progress.show(what, done, all))?;
    progress.finish();
    print!("{}", table(&report));
    if let Some(path) = &output.json {
        let json = serde_json::to_string_pretty(&report).context("the report is no JSON")?;
        write(path, &json)?;
    }
    if let Some(path) = &output.html {
        write(path, &html(&report))?;
    }
    if let Some(path) = &output.event_log {
        println!("\nevent log {:016x}", event_log(&experiment, path)?);
    }
    Ok(())
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Runs the first case once more, with its log; the log's hash.
fn event_log(experiment: &Experiment, path: &PathBuf) -> Result<u64> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut file = BufWriter::new(file);
    let (Loads::Speedups(loads), Some(&policy)) = (&experiment.loads, experiment.policies.first())
    else {
        bail!("`--event-log` needs `--speedup` and a policy");
    };
    let speedup = loads.first().copied().unwrap_or(1.0);
    let Experiment { settings, workload, first_seed, .. } = experiment;
    let outcome =
        simulate(settings, workload, policy, speedup, *first_seed, Some(&mut file), &mut |_| ())?;
    Ok(outcome.log_hash)
}

impl SimulateArgs {
    fn experiment(self) -> Result<Experiment> {
        let policies = self.policies()?;
        let workload = self.workload()?;
        let loads = if self.speedup.is_empty() {
            Loads::Shares(self.load)
        } else {
            Loads::Speedups(self.speedup)
        };
        let slo = Slo {
            ttft_micros: micros(self.limits.slo_ttft),
            ttft_isolated: self.limits.slo_ttft_isolated,
            itl_micros: micros(self.limits.slo_itl),
        };
        let settings = self.cluster.settings(self.prefill, self.decode)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (first_seed, seeds) = (self.seed, self.seeds);
        Ok(Experiment { settings, workload, policies, loads, first_seed, seeds, slo, threads })
    }

    fn policies(&self) -> Result<Vec<Policy>> {
        if self.policy.iter().any(|name| name == "all") {
            return Ok(Policy::all().collect());
        }
        self.policy.iter().map(|name| Ok(name.trim().parse()?)).collect()
    }

    fn workload(&self) -> Result<Workload> {
        let mut workload = match &self.trace {
            None => generate(&Synthetic::default()),
            Some(path) => {
                let bytes =
                    fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                read(&name.unwrap_or_default(), &bytes)
                    .with_context(|| path.display().to_string())?
            }
        };
        if let Some(duration) = self.limits.duration {
            if workload.is_closed_loop() {
                bail!("`--duration` needs a trace with arrival times; use `--requests`");
            }
            workload = workload.within(micros(duration));
        }
        if let Some(requests) = self.limits.requests {
            workload = workload.limited(requests);
        }
        if workload.requests() == 0 {
            bail!("no request is left within `--duration` and `--requests`");
        }
        Ok(workload)
    }
}

impl ClusterFlags {
    fn settings(&self, prefill: u32, decode: u32) -> Result<ClusterSettings> {
        let mut settings = ClusterSettings::new(prefill, decode, self.step_times()?);
        settings.set_block_size(self.block_size.max(1));
        settings.workers_per_host = self.workers_per_host;
        settings.kv_blocks = self.kv_blocks.unwrap_or(settings.kv_blocks);
        settings.prefill_chunk = self.prefill_chunk;
        settings.decode_chunk = self.decode_chunk;
        settings.max_num_seqs = self.max_num_seqs;
        settings.max_waiting = self.max_waiting;
        settings.message_micros = micros(self.message_latency);
        settings.layer_groups = self.layer_groups;
        settings.state_micros = micros(self.event_delay);
        if !(0.0..1.0).contains(&self.event_loss) {
            bail!("`--event-loss` must be at least 0 and below 1");
        }
        settings.state_loss_ppm = (self.event_loss * 1e6) as u32;
        settings.link_bytes_per_second = self.link_bandwidth.0;
        settings.hand_off_timeout_micros = micros(self.hand_off_timeout);
        settings.check()?;
        Ok(settings)
    }

    fn step_times(&self) -> Result<StepTimes> {
        let Some(path) = &self.step_times else { return Ok(preset(&self.preset)?) };
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        StepTimes::from_json(&text).with_context(|| path.display().to_string())
    }
}

fn policy_names() -> PossibleValuesParser {
    PossibleValuesParser::new(["all"].into_iter().chain(Policy::all().map(Policy::name)))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
