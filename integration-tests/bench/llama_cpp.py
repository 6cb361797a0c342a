"""llama.cpp, built once from the source that the PyPI package `llama-cpp-python` carries.

`python3 llama_cpp.py` builds it (about 8 CPU minutes) and prints the folder of its programs.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

PACKAGE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
BUILD_TOOLS = ["cmake==4.4.4", "ninja==1.13.2"]
PROGRAMS = ["llama-bench", "llama-batched-bench", "llama-quantize"]
OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DGGML_OPENMP=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_SERVER=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_UI=OFF",
]


def cache_dir() -> pathlib.Path:
    """The same rule as crates/config: ESTAFETTE_CACHE, else `estafette` in the user's cache folder."""
    if own := os.environ.get("ESTAFETTE_CACHE"):
        return pathlib.Path(own)
    if users := os.environ.get("XDG_CACHE_HOME"):
        return pathlib.Path(users) / "estafette"
    return pathlib.Path.home() / ".cache" / "estafette"


def folder() -> pathlib.Path:
    return cache_dir() / "llama.cpp"


def programs() -> pathlib.Path:
    """The folder of the built programs and libraries; builds them the first time."""
    done = folder() / "built"
    binaries = folder() / "build" / "bin"
    stamp = " ".join([PACKAGE, *BUILD_TOOLS, *OPTIONS, *PROGRAMS])
    if not (done.is_file() and done.read_text() == stamp):
        shutil.rmtree(folder(), ignore_errors=True)
        folder().mkdir(parents=True)
        build(source(), folder() / "build")
        done.write_text(stamp)
    return binaries


def source() -> pathlib.Path:
    """Downloads and unpacks the package's source; the folder of llama.cpp in it."""
    log(f"getting the source of {PACKAGE} (77 MB)")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    run([*pip, "--no-deps", "--no-binary", "llama-cpp-python", "--dest", folder(), PACKAGE])
    [archive] = folder().glob("llama_cpp_python-*.tar.gz")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{archive.name} has sha256 {digest}, expected {SHA256}")
    with tarfile.open(archive) as files:
        files.extractall(folder(), filter="data")
    archive.unlink()
    [llama_cpp] = folder().glob("llama_cpp_python-*/vendor/llama.cpp")
    return llama_cpp


def build(source: pathlib.Path, target: pathlib.Path) -> None:
    log("building llama.cpp (some minutes, once)")
    tools = folder() / "tools"
    run([sys.executable, "-m", "venv", tools])
    run([tools / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *BUILD_TOOLS])
    cmake = tools / "bin/cmake"
    ninja = f"-DCMAKE_MAKE_PROGRAM={tools / 'bin/ninja'}"
    run([cmake, "-S", source, "-B", target, "-G", "Ninja", ninja, *OPTIONS])
    run([cmake, "--build", target, "--target", *PROGRAMS])


def requantised(model: pathlib.Path, kind: str) -> pathlib.Path:
    """The same weights in another format; only for speed, their quality means nothing."""
    target = folder() / f"{model.stem}.{kind}.gguf"
    if not target.is_file():
        scratch = target.with_suffix(".part")
        run([programs() / "llama-quantize", "--allow-requantize", model, scratch, kind])
        scratch.rename(target)
    return target


def prompt_and_decode(model: pathlib.Path, threads: int, flash: bool, prompt: int, generate: int) -> dict[str, float]:
    """One run of llama-bench: tokens per second by metric."""
    flags = ["-p", prompt, "-n", generate, "-t", threads, "-fa", int(flash), "-r", 1, "-o", "jsonl"]
    lines = jsonl(run([programs() / "llama-bench", "-m", model, *flags]))
    return {f"pp{l['n_prompt']}" if l["n_prompt"] else f"tg{l['n_gen']}": l["avg_ts"] for l in lines}


def batched_decode(model: pathlib.Path, threads: int, flash: bool, prompt: int, generate: int, batch: int) -> float:
    """One run of llama-batched-bench: tokens per second of all sequences together after a shared prompt."""
    # Each stream keeps a cache of its own, as is the default.
    room = batch * (prompt + generate) + 256
    flags = ["-c", room, "-b", 2048, "-ub", 512, "-npp", prompt, "-ntg", generate, "-npl", batch, "-pps"]
    flags += ["-t", threads, "-tb", threads, "-fa", "on" if flash else "off", "--output-format", "jsonl"]
    [line] = jsonl(run([programs() / "llama-batched-bench", "-m", model, *flags]))
    return line["speed_tg"]


def jsonl(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def run(command: list) -> str:
    """Standard output of a program that must succeed; its log is shown only if it does not."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed ({done.returncode}):\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def log(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(programs())
