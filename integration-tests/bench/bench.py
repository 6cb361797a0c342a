"""Estafette side by side with llama.cpp, in one run on one machine: `make bench`. See README.md."""

import argparse
import datetime
import json
import pathlib
import statistics

import kv
import llama_cpp
import machine
import router_load
import serving
import speed
import truth

ROOT = pathlib.Path(__file__).resolve().parents[2]
TTFT_BAR = 1.05
TRUTH_BAR = 0.15
KV_BAR = 0.9
# What each is held against, and how many times its speed it is to have.
KV_GOALS = {"shm": {"memcpy": KV_BAR, "nixl": 2}, "tcp": {"socket": KV_BAR, "nixl tcp": 4}}


def main():
    args = arguments()
    result = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "threads": args.threads,
        "rounds": args.rounds,
        "llama_cpp": llama_cpp.PACKAGE,
    }
    print("{processor}, {cores} cores, load average {load_average:.2f}".format(**result["machine"]))
    for part in args.only:
        result[part], lines = PARTS[part](args)
        print("\n".join(["", *lines]), flush=True)
        if args.json:
            args.json.write_text(json.dumps(result, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/estafette")
    parser.add_argument("--against", type=pathlib.Path, nargs="*", default=[], help="router-load: other builds, loaded in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--patience", type=float, default=30, help="seconds to wait for a quiet moment before each round")
    parser.add_argument("--all-formats", action="store_true", help="also llama.cpp's own best formats, Q4_0 and Q8_0")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[part for part in PARTS if part != "truth"])
    parser.add_argument("--requests", type=int, default=80, help="of each trace of the part `truth`")
    parser.add_argument("--loads", type=float, nargs="+", default=[0.6, 0.65, 0.7], help="of the part `truth`: shares of what the cluster can take")
    parser.add_argument("--json", type=pathlib.Path, help="write everything here, samples too")
    args = parser.parse_args()
    args.tools = ROOT / "target/release/examples"
    for path in [args.model, args.program, *args.against]:
        if not path.is_file():
            parser.error(f"there is no file {path}")
    return args


def run_speed(args):
    kinds = ["Q4_0", "Q8_0"] if args.all_formats else []
    result = speed.measure(args.program, args.model, args.rounds, args.threads, kinds, args.patience)
    samples = result["samples"]
    lines = [f"Tokens per second, {args.threads} threads: median (lowest to highest of {args.rounds} rounds)"]
    lines.append(row("", speed.METRICS))
    for name, metrics in samples.items():
        lines.append(row(name, [spread(metrics[metric]) for metric in speed.METRICS]))
    result["ratios"] = {}
    for label, matches in [("same file", lambda name: ", same file," in name), ("any format", lambda name: True)]:
        rivals = [name for name in samples if name.startswith("llama.cpp") and matches(name)]
        ratios = {metric: against_best(samples, rivals, metric) for metric in speed.METRICS}
        result["ratios"][label] = ratios
        if label == "same file" or kinds:
            cells = [spread(ratios[metric], 2) for metric in speed.METRICS]
            lines.append(row(f"estafette / best llama.cpp, {label}", cells))
    return result, [*lines, quiet(result, args.rounds)]


def against_best(samples, rivals, metric):
    """Ratios round by round to the rival with the best median."""
    best = max(rivals, key=lambda name: statistics.median(samples[name][metric]))
    return [ours / theirs for ours, theirs in zip(samples["estafette"][metric], samples[best][metric])]


def run_memory(args):
    result = serving.memory(args.program, args.model, args.threads)
    mb = lambda size: f"{size / 1e6:.1f} MB"
    parts = [mb(result["model_bytes"]), mb(result["kv_bytes"]), mb(serving.MEMORY_EXTRA_BYTES)]
    lines = [f"Resident memory with a full KV pool; bar: model + pool + 150 MB = {' + '.join(parts)} = {mb(result['bar'])}"]
    for name, worker in result["workers"].items():
        kinds = ", ".join(f"{kind} {mb(worker[kind])}" for kind in ["RssAnon", "RssFile", "RssShmem"])
        verdict = "met" if worker["VmRSS"] <= result["bar"] else "MISSED"
        lines.append(f"{name:16} {mb(worker['VmRSS'])}: {verdict} ({kinds})")
    return result, lines


def run_ttft(args):
    rounds = 2 * args.rounds
    result = serving.first_token(args.program, args.model, args.threads, rounds, args.patience)
    ttft = {name: samples["ttft"] for name, samples in result["samples"].items()}
    result["ratio"] = statistics.median(ttft["disaggregated"]) / statistics.median(ttft["aggregated"])
    lines = [f"Time to first token of a prompt of {serving.PROMPT} tokens, {args.threads} threads in each worker, ms"]
    for name, samples in result["samples"].items():
        first, second = (spread([1000 * s for s in samples[key]]) for key in ["ttft", "second_token"])
        lines.append(f"{name:16} {first}, from there to the second token {second}")
    verdict = "met" if result["ratio"] <= TTFT_BAR else "MISSED"
    lines.append(f"{'ratio':16} {result['ratio']:.3f}, bar {TTFT_BAR}: {verdict}")
    return result, [*lines, quiet(result, rounds)]


def run_router_load(args):
    programs = {"estafette": args.program}
    programs |= {f"against {path}": path for path in args.against}
    result = router_load.measure(programs, args.tools, args.model, args.rounds)
    encoding, out = result["tokenising"], router_load.TOKENS
    lines = [f"One router under load, mock workers, {encoding['prompt_tokens']} tokens in, {out} out; medians of {args.rounds} rounds"]
    lines.append(f"of its CPU, tokenising takes {encoding['us']:.0f} µs (measured apart)")
    lines.append(row("connections", ["CPU each, µs", "first p50/p99, ms", "whole p50/p99, ms", "longest gap p50/p99"]))
    for name, loads in result["medians"].items():
        lines.append(f"{name}: milliseconds beyond the steps")
        for connections, median in loads.items():
            times = [f"{median[f'{kind}_p50_ms']:.1f} / {median[f'{kind}_p99_ms']:.1f}" for kind in ["first", "whole", "gap"]]
            cpu = spread([sample["cpu_us"] for sample in result["samples"][name][connections]])
            lines.append(row(f"{connections}", [cpu, *times]))
    return result, lines


def run_kv(args):
    result = kv.measure(args.tools, args.rounds, args.patience)
    rounds = result["rounds"]
    medians = [{name: statistics.median(seconds) for name, seconds in samples.items()} for samples in rounds]
    lines = [f"{kv.BLOCKS} blocks of 64 KiB, scattered at both ends, from asking to the other process's answer; medians of {args.rounds} rounds of {kv.BATCHES}"]
    for name in medians[0]:
        seconds = [of[name] for of in medians if name in of]
        lines.append(row(name, [spread([1000 * s for s in seconds], 2) + " ms", f"{kv.BATCH_BYTES / statistics.median(seconds) / 1e9:.2f} GB/s"]))
    for ours, others in KV_GOALS.items():
        for other, goal in others.items():
            ratios = [of[other] / of[ours] for of in medians if other in of]
            if ratios:
                verdict = "met" if statistics.median(ratios) >= goal else "MISSED"
                lines.append(f"{ours} has {spread(ratios, 2)} times the speed of {other}, goal {goal}: {verdict}")
    return result, [*lines, quiet(result, args.rounds)]


def run_truth(args):
    rows = truth.measure(args.program, args.model, args.threads, args.requests, args.loads, args.rounds, args.patience)
    lines = [f"Simulated and real time to first token, {args.requests} requests a trace, ms (bar: within {TRUTH_BAR:.0%})"]
    for result in rows:
        what = "{shape}, seed {seed}, load {load:.2f}, {rate:.2f}/s".format(**result)
        cells = [f"{key} {result['simulated'][key]:.0f} / {result['real'][key]:.0f} = {result['ratio'][key]:.2f}" for key in truth.FIGURES]
        missed = any(abs(result["ratio"][key] - 1) > TRUTH_BAR for key in truth.FIGURES[:2])
        verdict = "MISSED" if missed else "met"
        if result["foreign_cores"] > machine.DISTURBED_CORES:
            verdict = f"proves nothing, others kept {result['foreign_cores']:.2f} cores busy"
        lines.append(f"{what}: {', '.join(cells)}: {verdict}")
    return rows, lines


def spread(samples, digits=None):
    """`median (lowest to highest)`."""
    median = statistics.median(samples)
    digits = digits if digits is not None else (0 if median >= 100 else 1)
    return f"{median:.{digits}f} ({min(samples):.{digits}f}–{max(samples):.{digits}f})"


def row(name, cells):
    return f"{name:42}" + "".join(f"{cell:>22}" for cell in cells)


def quiet(result, rounds):
    if result["disturbed"]:
        return f"{result['disturbed']} of {rounds} rounds were disturbed: these figures prove nothing"
    return f"none of the {rounds} rounds was disturbed"


PARTS = {
    "speed": run_speed,
    "memory": run_memory,
    "ttft": run_ttft,
    "router-load": run_router_load,
    "kv": run_kv,
    "truth": run_truth,
}

if __name__ == "__main__":
    main()
