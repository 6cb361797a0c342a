"""A cluster that `estafette up` starts, and requests to it."""

import contextlib
import http.client
import json
import pathlib
import signal
import socket
import subprocess
import tempfile
import time

import machine

READY_S = 300
STOP_S = 60
REQUEST_S = 120


class Refused(Exception):
    """The server answered with another status than 200."""


class Cluster:
    def __init__(self, program: pathlib.Path, model: pathlib.Path, prefill: int, threads: int, *flags: str):
        self.port, grpc = free_ports(2)
        self.prefill = prefill
        self.log = tempfile.TemporaryFile()
        command = [program, "up", "--model", model, "--prefill", prefill, "--decode", 1, "--threads", threads]
        command += ["--http", f"127.0.0.1:{self.port}", "--grpc", f"127.0.0.1:{grpc}", *flags]
        command = [str(part) for part in command]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)

    def __enter__(self):
        try:
            self.wait_until_ready()
            return self
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"the cluster ended:\n{self.last_lines()}")
            with contextlib.suppress(OSError, http.client.HTTPException, Refused):
                workers = json.loads(self.request("GET", "/health/ready"))["workers"]
                if workers == {"prefill": self.prefill, "decode": 1}:
                    return
            time.sleep(0.1)
        raise SystemExit(f"the cluster is not ready after {READY_S} s:\n{self.last_lines()}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_lines(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def processes(self) -> dict[str, int]:
        """Process ids by name: router, prefill-worker, decode-worker."""
        return {command[1]: pid for pid, command in machine.children(self.process.pid).items()}

    def request(self, method: str, path: str, body: dict | None = None) -> bytes:
        with self.open(method, path, body) as response:
            return response.read()

    @contextlib.contextmanager
    def open(self, method: str, path: str, body: dict | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_S)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, {"content-type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise Refused(f"{path} answered {response.status}: {response.read()[:1000]!r}")
            yield response
        finally:
            connection.close()

    def complete(self, prompt: list[int], max_tokens: int) -> dict:
        """A whole greedy completion."""
        return json.loads(self.request("POST", "/v1/completions", completion(prompt, max_tokens)))

    def routes(self, kind: str) -> float:
        """How many requests the router has sent in this way."""
        name = f'estafette_routes_total{{kind="{kind}"}} '
        lines = self.request("GET", "/metrics").decode().splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    def times(self, prompt: list[int], max_tokens: int) -> list[float]:
        """Seconds from the request to each streamed token."""
        body, times = completion(prompt, max_tokens) | {"stream": True}, []
        began = time.perf_counter()
        with self.open("POST", "/v1/completions", body) as response:
            for line in response:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["finish_reason"] is None:
                    times.append(time.perf_counter() - began)
        return times


def completion(prompt: list[int], max_tokens: int) -> dict:
    return {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
