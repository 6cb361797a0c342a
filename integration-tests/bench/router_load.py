"""What a request costs the router: CPU time, and time added to what the workers take. Mock workers that compute nothing."""

import contextlib
import json
import pathlib
import statistics
import subprocess

import llama_cpp
import machine
from cluster import Cluster

STEP_MS = 5
PROMPT_WORDS, TOKENS = 470, 32
# Connections in a closed loop, and requests of one round.
LOADS = {1: 40, 16: 320, 64: 960, 256: 2048}
FLAGS = ["--backend", "mock", "--mock-step", f"{STEP_MS}ms", "--max-num-seqs", 256, "--max-num-batched-tokens", 8192]
FLAGS += ["--kv-memory", "4GiB"]
TIMES = ["first_p50_ms", "first_p99_ms", "whole_p50_ms", "whole_p99_ms", "gap_p50_ms", "gap_p99_ms"]


def measure(programs: dict[str, pathlib.Path], tools: pathlib.Path, model: pathlib.Path, rounds: int) -> dict:
    """Samples by program, connections and metric: CPU microseconds of the router for each request, and milliseconds. All
    programs run at once and are loaded in turn. The steps that an answer cannot do without are taken off its times: one for
    the first token, one more for each further token. What is left holds the wait for the step that runs already, half of one
    on average."""
    tokenising = json.loads(llama_cpp.run([tools / "tokenising", model, PROMPT_WORDS]))
    with contextlib.ExitStack() as stack:
        clusters = {name: stack.enter_context(Cluster(program, model, 0, 1, *FLAGS)) for name, program in programs.items()}
        for cluster in clusters.values():
            load(cluster, tools, 16, 64)
        samples = {name: {connections: [] for connections in LOADS} for name in programs}
        for round_ in range(rounds):
            for connections, requests in LOADS.items():
                for name in sorted(clusters, reverse=bool(round_ % 2)):
                    llama_cpp.log(f"router under load, round {round_ + 1}, {connections} connections, {name}")
                    samples[name][connections].append(one_sample(clusters[name], tools, connections, requests))
    medians = {name: {connections: median(each) for connections, each in loads.items()} for name, loads in samples.items()}
    return {"tokenising": tokenising, "samples": samples, "medians": medians}


def one_sample(cluster: Cluster, tools: pathlib.Path, connections: int, requests: int) -> dict[str, float]:
    router = cluster.processes()["router"]
    before = machine.cpu_seconds(router)
    figures = load(cluster, tools, connections, requests)
    sample = {"cpu_us": (machine.cpu_seconds(router) - before) / requests * 1e6}
    steps = {"first": 1, "whole": TOKENS, "gap": 1}
    return sample | {name: figures[name] - steps[name.partition("_")[0]] * STEP_MS for name in TIMES}


def load(cluster: Cluster, tools: pathlib.Path, connections: int, requests: int) -> dict[str, float]:
    command = [tools / "router_load", f"127.0.0.1:{cluster.port}", connections, requests, PROMPT_WORDS, TOKENS]
    return json.loads(subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout)


def median(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(sample[name] for sample in samples) for name in samples[0]}
