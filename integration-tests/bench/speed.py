"""Tokens per second of the engine alone, side by side with llama.cpp: one run of each in turn, several rounds."""

import pathlib

import llama_cpp
import machine

PROMPT, GENERATE, BATCH = 512, 32, 16
METRICS = [f"pp{PROMPT}", f"tg{GENERATE}", f"tg{GENERATE}@{PROMPT}x{BATCH}"]


def measure(program: pathlib.Path, model: pathlib.Path, rounds: int, threads: int, kinds: list[str], patience_s: float) -> dict:
    """Samples by contestant and metric. Contestants of llama.cpp are a format with flash attention on or off."""
    models = {"same file": model} | {kind: llama_cpp.requantised(model, kind) for kind in kinds}
    contestants = {"estafette": lambda: ours(program, model, threads)}
    for kind, path in models.items():
        for flash in [True, False]:
            name = f"llama.cpp, {kind}, fa {'on' if flash else 'off'}"
            contestants[name] = lambda path=path, flash=flash: theirs(path, threads, flash)
    def one_round(round_):
        llama_cpp.log(f"speed, round {round_ + 1}")
        # The order turns, so that nobody always follows the same neighbour.
        turn = round_ % len(contestants)
        names = [*contestants][turn:] + [*contestants][:turn]
        speeds, foreign = {}, 0.0
        for name in names:
            watch = machine.Watch()
            speeds[name] = contestants[name]()
            foreign = max(foreign, watch.foreign_cores())
        if foreign > machine.DISTURBED_CORES:
            llama_cpp.log(f"disturbed: others kept {foreign:.2f} cores busy")
        return speeds, foreign

    results, disturbed = machine.undisturbed(one_round, rounds, patience_s)
    samples = {name: {metric: [speeds[name][metric] for speeds in results] for metric in METRICS} for name in contestants}
    return {"samples": samples, "disturbed": disturbed}


def ours(program: pathlib.Path, model: pathlib.Path, threads: int) -> dict[str, float]:
    """The second of two repetitions: llama-bench warms up too."""
    flags = ["--threads", threads, "--prompt", PROMPT, "--generate", GENERATE, "--batch", BATCH, "--repetitions", 2]
    lines = llama_cpp.jsonl(llama_cpp.run([program, "bench", "--model", model, *flags]))
    return {line["metric"]: line["tok_per_s"] for line in lines}


def theirs(model: pathlib.Path, threads: int, flash: bool) -> dict[str, float]:
    both = llama_cpp.prompt_and_decode(model, threads, flash, PROMPT, GENERATE)
    return both | {METRICS[2]: llama_cpp.batched_decode(model, threads, flash, PROMPT, GENERATE, BATCH)}
