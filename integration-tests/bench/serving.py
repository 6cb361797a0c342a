"""Whole clusters: memory, time to first token through one pool and through two."""

import math
import pathlib
import random

import llama_cpp
import machine
from cluster import Cluster

PROMPT = 1500
VOCABULARY = range(100, 49_000)
MEMORY_KV_BYTES = 128 << 20
MEMORY_EXTRA_BYTES = 150_000_000
# Enough different prompts to write into every block of the pool.
MEMORY_PROMPTS = 20


def prompts(length: int):
    """Prompts of random tokens: none shares a block with another."""
    numbers = random.Random(length)
    while True:
        yield [numbers.choice(VOCABULARY) for _ in range(length)]


def memory(program: pathlib.Path, model: pathlib.Path, threads: int) -> dict:
    """Resident bytes of both workers once their pools have been written, each against model file + KV pool + 150 MB."""
    llama_cpp.log("memory")
    bar = model.stat().st_size + MEMORY_KV_BYTES + MEMORY_EXTRA_BYTES
    with Cluster(program, model, 1, threads, "--kv-memory", f"{MEMORY_KV_BYTES >> 20}MiB") as cluster:
        for prompt, _ in zip(prompts(PROMPT), range(MEMORY_PROMPTS)):
            cluster.complete(prompt, 8)
        names = ["prefill-worker", "decode-worker"]
        workers = {name: machine.memory(cluster.processes()[name]) for name in names}
    return {"bar": bar, "kv_bytes": MEMORY_KV_BYTES, "model_bytes": model.stat().st_size, "workers": workers}


def first_token(program: pathlib.Path, model: pathlib.Path, threads: int, rounds: int, patience_s: float) -> dict:
    """Seconds to the first token, and from there to the second one, of unique prompts: one cluster with a prefill and a
    decode worker, one with a decode worker alone, asked in turn. The router may let the decode worker of the first compute
    a prompt too: such a round says nothing and is repeated."""
    llama_cpp.log("time to first token")
    source = prompts(PROMPT)
    with Cluster(program, model, 1, threads) as two, Cluster(program, model, 0, threads) as one:
        clusters = {"disaggregated": two, "aggregated": one}

        def one_round(round_):
            used, watch = sum(map(own_cpu, clusters.values())), machine.Watch()
            times, handed_off = {}, two.routes("disaggregated")
            for name in sorted(clusters, reverse=bool(round_ % 2)):
                first, second, *_ = clusters[name].times(next(source), 4)
                times[name] = {"ttft": first, "second_token": second - first}
            foreign = watch.foreign_cores(sum(map(own_cpu, clusters.values())) - used)
            return times, foreign if two.routes("disaggregated") > handed_off else math.inf

        one_round(0)
        results, disturbed = machine.undisturbed(one_round, rounds, patience_s)
    parts = ["ttft", "second_token"]
    samples = {name: {part: [times[name][part] for times in results] for part in parts} for name in clusters}
    return {"prompt_tokens": PROMPT, "samples": samples, "disturbed": disturbed}


def own_cpu(cluster: Cluster) -> float:
    return sum(machine.cpu_seconds(pid) for pid in cluster.processes().values())
