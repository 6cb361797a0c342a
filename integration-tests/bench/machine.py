"""What the kernel says about processes and about who else used the cores."""

import os
import pathlib
import resource
import time

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# A neighbour that takes more of a core than this spoils a measurement.
DISTURBED_CORES = 0.15
# Quiet for so long is quiet.
QUIET_S = 3


class Watch:
    """Whether anybody else used the cores while something ran: CPU seconds of the machine that were not ours."""

    def __init__(self):
        self.began, self.busy, self.own = time.monotonic(), busy_seconds(), own_seconds()

    def foreign_cores(self, own_extra: float = 0.0) -> float:
        """Cores that others kept busy, on average; `own_extra` are CPU seconds of ours that are not our children's."""
        elapsed = time.monotonic() - self.began
        own = own_seconds() - self.own + own_extra
        return max(0.0, busy_seconds() - self.busy - own) / elapsed


def undisturbed(measure, rounds: int, patience_s: float) -> tuple[list, int]:
    """Results of `measure(round)`, which returns one and the cores that others kept busy meanwhile. Each round waits up to
    `patience_s` for a quiet moment. Disturbed rounds are repeated, up to twice as many in all; the results of the quietest
    rounds, and how many of these were disturbed."""
    results = []
    for round_ in range(2 * rounds):
        wait_for_quiet(patience_s)
        results.append(measure(round_))
        if sum(foreign <= DISTURBED_CORES for _, foreign in results) == rounds:
            break
    # A stable order: of equally quiet rounds the earlier ones.
    kept = sorted(results, key=lambda result: max(result[1], DISTURBED_CORES))[:rounds]
    return [result for result, _ in kept], sum(foreign > DISTURBED_CORES for _, foreign in kept)


def wait_for_quiet(patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        watch = Watch()
        time.sleep(QUIET_S)
        if watch.foreign_cores() <= DISTURBED_CORES:
            return


def busy_seconds() -> float:
    """CPU seconds of all processes since boot, and those that the hypervisor took."""
    user, nice, system, _idle, _wait, irq, softirq, steal = map(int, read("/proc/stat").split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_S


def own_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a running process, all its threads that have not ended. To the nanosecond, unlike the process's own count."""
    return sum(int(read(task / "schedstat").split()[0]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()) / 1e9


def memory(pid: int) -> dict[str, int]:
    """Resident bytes of a process: all, and by kind."""
    lines = dict(line.split(":", 1) for line in read(f"/proc/{pid}/status").splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ["VmRSS", "RssAnon", "RssFile", "RssShmem"]}


def children(pid: int) -> dict[int, list[str]]:
    """The command lines of a process's children."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int(read(folder / "stat").rpartition(")")[2].split()[1])
            command = read(folder / "cmdline").rstrip("\0").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found[int(folder.name)] = command
    return found


def describe() -> dict:
    models = [line.partition(":")[2].strip() for line in read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {"processor": models[0] if models else "unknown", "cores": len(os.sched_getaffinity(0)), "load_average": os.getloadavg()[0]}


def read(path) -> str:
    return pathlib.Path(path).read_text()
