"""Whether the simulator tells the truth: one trace on a real cluster and in virtual time, times to first token side by side."""

import concurrent.futures
import contextlib
import json
import math
import pathlib
import random
import statistics
import tempfile
import time

import llama_cpp
import machine
from cluster import Cluster
from serving import VOCABULARY, own_cpu

# Prefill workers of each shape; one decode worker each.
SHAPES = {"disaggregated": 1, "aggregated": 0}
# Tokens that one content id stands for, as in Mooncake's traces.
CONTENT_BLOCK = 512
DOCUMENTS, SHARES_DOCUMENT = 5, 0.6
OWN_TOKENS, ANSWER_TOKENS = (50, 476), (10, 60)
CAPACITY_REQUESTS, CAPACITY_CLIENTS = 24, 12
SHORT_REQUESTS, SHORT_TOKENS, SHORT_PAUSE_S = 15, 16, 0.1
FIGURES = ["ttft p50", "ttft p90", "itl p50"]


def trace(seed: int, rate: float, requests: int) -> list[dict]:
    """Poisson arrivals in Mooncake's format. Some prompts begin with one of a few documents; the rest of each is its own."""
    rng, at, lines = random.Random(seed), 0.0, []
    documents = [[1000 * seed + 10 * i + part for part in range(rng.choice([1, 2]))] for i in range(DOCUMENTS)]
    for number in range(requests):
        at += rng.expovariate(rate)
        ids = rng.choice(documents) if rng.random() < SHARES_DOCUMENT else []
        lines.append({
            # The simulator spreads requests of one tick: these have one each.
            "timestamp": round(1000 * at, 3),
            "input_length": CONTENT_BLOCK * len(ids) + rng.randint(*OWN_TOKENS),
            "output_length": rng.randint(*ANSWER_TOKENS),
            "hash_ids": [*ids, 1000 * seed + 100 + number],
        })
    return lines


def prompt(line: dict) -> list[int]:
    tokens = []
    for content in line["hash_ids"]:
        rng = random.Random(content)
        tokens += [rng.choice(VOCABULARY) for _ in range(CONTENT_BLOCK)]
    return tokens[:line["input_length"]]


def replay(cluster: Cluster, lines: list[dict]) -> list[tuple[float, float]]:
    """Streams every request at its time; seconds to its first token, and between two of them on average."""
    work = [(line["timestamp"] / 1000, prompt(line), line["output_length"]) for line in lines]
    began = time.monotonic() + 0.5

    def ask(at, tokens, answer):
        time.sleep(max(0.0, began + at - time.monotonic()))
        times = cluster.times(tokens, answer)
        # A part of a character comes with the rest of it, so that fewer pieces than tokens come.
        return times[0], (times[-1] - times[0]) / (answer - 1)

    with concurrent.futures.ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(lambda request: ask(*request), work))


def capacity(cluster: Cluster, seed: int) -> float:
    """Requests in a second when there is always one that waits."""
    lines = trace(seed, 1.0, CAPACITY_REQUESTS)
    with concurrent.futures.ThreadPoolExecutor(CAPACITY_CLIENTS) as pool:
        began = time.monotonic()
        list(pool.map(lambda line: cluster.times(prompt(line), line["output_length"]), lines))
        return len(lines) / (time.monotonic() - began)


def short_requests(seed: int) -> list[dict]:
    """One small prompt after the other: what a request costs besides steps."""
    line = {"input_length": SHORT_TOKENS, "output_length": 1}
    return [line | {"timestamp": 1000 * SHORT_PAUSE_S * i, "hash_ids": [1000 * seed + 900 + i]} for i in range(SHORT_REQUESTS)]


def fit(program: pathlib.Path, model: pathlib.Path, threads: int, rounds: int, folder: pathlib.Path) -> pathlib.Path:
    path = folder / "step-times.json"
    llama_cpp.log(llama_cpp.run([program, "bench", "--model", model, "--threads", threads, "--repetitions", rounds, "--fit", path]).strip())
    return path


def simulate(program, times: pathlib.Path, lines: list[dict], prefill: int, message_s: float, folder: pathlib.Path) -> dict:
    path, report = folder / "trace.jsonl", folder / "report.json"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    micros = f"{1e6 * message_s:.0f}us"
    flags = ["--step-times", times, "--prefill", prefill, "--decode", 1, "--workers-per-host", prefill + 1]
    # The defaults of the workers.
    flags += ["--block-size", 16, "--prefill-chunk", 512, "--decode-chunk", 512, "--max-num-seqs", 64]
    flags += ["--message-latency", micros, "--event-delay", micros]
    llama_cpp.run([program, "simulate", path, "--policy", "ours", "--speedup", 1, "--seeds", 1, "--json", report, *flags])
    [run] = json.loads(report.read_text())["cells"][0]["runs"]
    return {"ttft p50": run["ttft_ms"]["p50"], "ttft p90": run["ttft_ms"]["p90"], "itl p50": run["itl_ms"]["p50"]}


def figures(answers: list[tuple[float, float]]) -> dict:
    first, between = ([1000 * seconds for seconds in part] for part in zip(*answers))
    return {"ttft p50": rank(first, 50), "ttft p90": rank(first, 90), "itl p50": rank(between, 50)}


def rank(values: list[float], percent: int) -> float:
    """The smallest value that at least this share does not exceed, as the simulator has it."""
    return sorted(values)[max(1, math.ceil(len(values) * percent / 100)) - 1]


def measure(program, model, threads: int, requests: int, loads: list[float], fit_rounds: int, patience_s: float) -> list[dict]:
    """For each load (a share of what the cluster can take) and shape: a fit, a replay and a simulation, close to each other."""
    results = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        clusters = {
            shape: stack.enter_context(Cluster(program, model, prefill, threads)) for shape, prefill in SHAPES.items()
        }
        for seed, load in enumerate(loads, 1):
            machine.wait_for_quiet(patience_s)
            times = fit(program, model, threads, fit_rounds, folder)
            for shape, cluster in clusters.items():
                results.append({"shape": shape, "seed": seed, "load": load} | one(program, times, cluster, seed, load, requests, folder))
                llama_cpp.log(json.dumps(results[-1]))
    return results


def one(program, times: pathlib.Path, cluster: Cluster, seed: int, load: float, requests: int, folder: pathlib.Path) -> dict:
    short = short_requests(seed + 100)
    steps_ms = simulate(program, times, short, cluster.prefill, 0.0, folder)["ttft p50"]
    alone = [cluster.times(prompt(line), 1)[0] for line in short]
    message_s = max(0.0, (statistics.median(alone) - steps_ms / 1000) / 2)
    rate = load * capacity(cluster, seed + 200)
    lines = trace(seed, rate, requests)
    used, watch, split = own_cpu(cluster), machine.Watch(), cluster.routes("disaggregated")
    real = figures(replay(cluster, lines))
    foreign = watch.foreign_cores(own_cpu(cluster) - used)
    simulated = simulate(program, times, lines, cluster.prefill, message_s, folder)
    return {
        "rate": rate,
        "message_ms": 1000 * message_s,
        "handed_off": cluster.routes("disaggregated") - split,
        "foreign_cores": foreign,
        "real": real,
        "simulated": simulated,
        "ratio": {key: simulated[key] / real[key] for key in FIGURES},
    }
