"""NIXL on the workload of the `kv_bench` example: 1,024 blocks of 64 KiB, scattered at both ends, two processes, CPU memory.

A batch's time is from posting the write until the other process has answered its notification. Run as a program, it prints the times in
seconds as JSON; `UCX_TLS` in the environment picks NIXL's transports.
"""

import json
import multiprocessing
import os
import sys
import time

BLOCK = 64 << 10
POOL = 4096
BATCH = 1024
WARM = 3
PATIENCE = 60.0


def agent(name):
    """A NIXL agent with a pool of `POOL` blocks, and the pool."""
    import numpy
    from nixl_cu12._api import nixl_agent, nixl_agent_config

    made = nixl_agent(name, nixl_agent_config(backends=["UCX"]))
    pool = numpy.zeros(POOL * BLOCK, dtype=numpy.uint8)
    base = pool.ctypes.data
    made.register_memory([(base, POOL * BLOCK, 0, "")], "DRAM")
    return made, pool


def notified(of, sender):
    """Waits for one notification of `sender`."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for message in of.get_new_notifs().get(sender, []):
            return message
    raise TimeoutError(f"{sender} says nothing")


def receive(pipe):
    """The receiving process: answers each batch's notification."""
    import numpy

    receiver, pool = agent("receiver")
    pipe.send((receiver.get_agent_metadata(), pool.ctypes.data))
    sender = receiver.add_remote_agent(pipe.recv())
    sender = sender.decode() if isinstance(sender, bytes) else sender
    for _ in range(pipe.recv()):
        batch = int(notified(receiver, sender))
        receiver.send_notif(sender, str(batch).encode())
    # Each block's first word says where it came from.
    pipe.send(numpy.ascontiguousarray(pool.reshape(POOL, BLOCK)[:, :8]).view(numpy.int64)[:, 0].tolist())


def measure(rounds):
    """Seconds of each batch after the warm ones."""
    import numpy

    context = multiprocessing.get_context("spawn")
    pipe, far = context.Pipe()
    process = context.Process(target=receive, args=(far,), daemon=True)
    process.start()
    sender, pool = agent("sender")
    words = pool.reshape(POOL, BLOCK)[:, :8].copy().view(numpy.int64)
    words[:, 0] = numpy.arange(POOL) + 1
    pool.reshape(POOL, BLOCK)[:, :8] = words.view(numpy.uint8).reshape(POOL, 8)
    metadata, remote_base = pipe.recv()
    pipe.send(sender.get_agent_metadata())
    receiver = sender.add_remote_agent(metadata)
    receiver = receiver.decode() if isinstance(receiver, bytes) else receiver
    pipe.send(WARM + rounds)

    blocks = lambda base: [(base + i * BLOCK, BLOCK, 0) for i in range(POOL)]
    here = sender.prep_xfer_dlist("NIXL_INIT_AGENT", blocks(pool.ctypes.data), "DRAM")
    there = sender.prep_xfer_dlist(receiver, blocks(remote_base), "DRAM")
    source = numpy.random.RandomState(7).permutation(POOL).astype(numpy.int32)
    target = numpy.random.RandomState(99).permutation(POOL).astype(numpy.int32)
    times = []
    for batch in range(WARM + rounds):
        first = batch * BATCH % POOL
        indices = [side[first : first + BATCH] for side in (source, target)]
        started = time.perf_counter()
        handle = sender.make_prepped_xfer("WRITE", here, indices[0], there, indices[1], str(batch).encode())
        state = sender.transfer(handle)
        while state == "PROC":
            state = sender.check_xfer_state(handle)
        if state != "DONE":
            raise RuntimeError(f"NIXL says {state}")
        if int(notified(sender, receiver)) != batch:
            raise RuntimeError("an answer to another batch")
        times.append(time.perf_counter() - started)
        sender.release_xfer_handle(handle)
    found = pipe.recv()
    if (WARM + rounds) * BATCH >= POOL and any(found[target[i]] != source[i] + 1 for i in range(POOL)):
        raise RuntimeError("blocks are not where they belong")
    process.join(PATIENCE)
    return times[WARM:]


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))), flush=True)
    # NIXL 1.5.1 crashes when the interpreter takes it down.
    os._exit(0)
