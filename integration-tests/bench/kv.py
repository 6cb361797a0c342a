"""Blocks from one process into another: ours, what the machine can do, and NIXL where its wheel installs."""

import json
import os
import pathlib
import subprocess
import sys

import llama_cpp
import machine

BLOCKS = 1024
BATCH_BYTES = BLOCKS << 16
# Without what they depend on: that is gigabytes for GPUs, and not needed for CPU memory.
PEERS = ["nixl-cu12==1.5.1", "numpy==2.4.6"]
# A run of ours or of a peer; they take turns.
BATCHES = 12
TIMEOUT_S = 300


def measure(tools: pathlib.Path, rounds: int, patience_s: float) -> dict:
    """Seconds of each batch, by kind; the kinds of one round were measured within seconds of each other."""
    python = peers_python()

    def once(_):
        watch = machine.Watch()
        samples = run([tools / "kv_bench", str(BATCHES)])
        for name, transports in {"nixl": None, "nixl tcp": "tcp"}.items():
            if python is not None:
                settings = {} if transports is None else {"UCX_TLS": transports}
                found = run([python, pathlib.Path(__file__).with_name("kv_peers.py"), str(BATCHES)], settings)
                if found is not None:
                    samples[name] = found
        return samples, watch.foreign_cores()

    results, disturbed = machine.undisturbed(once, rounds, patience_s)
    return {"rounds": results, "disturbed": disturbed}


def run(command, settings=None):
    """The JSON in the last line that the program prints; `None` when a peer does not work here."""
    done = subprocess.run(command, env={**os.environ, **(settings or {})}, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=settings is None)
    return json.loads(done.stdout.decode().splitlines()[-1]) if done.returncode == 0 else None


def peers_python() -> pathlib.Path | None:
    """A Python that has the peers, installed once; `None` where they do not install."""
    folder = llama_cpp.cache_dir() / "kv-peers"
    stamp, python = folder / "installed", folder / "bin/python"
    if stamp.is_file() and stamp.read_text() == " ".join(PEERS):
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *PEERS], check=True)
    except subprocess.CalledProcessError as error:
        print(f"without NIXL: {error}")
        return None
    stamp.write_text(" ".join(PEERS))
    return python
