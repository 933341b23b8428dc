"""An engine process in clean surroundings: how it is started and how its log is read.

In: what to run (`EngineSpec`) and the file of the shared audio. Out: the process, our end of its control socket, its
log records. Does not know what is said on the socket. Invariants: the process inherits two files and a short list of
environment variables, no secret among them; it leads its own process group, so a Ctrl-C meant for us passes it by.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

# All that an engine process gets of our environment: no database address, no broker password, no token.
PASSED_ON = (
    "PATH", "HOME", "USER", "LANG", "LC_", "TMPDIR", "TZ", "LD_", "CUDA", "NVIDIA_", "NCCL_", "TORCH", "PYTORCH_",
    "TRITON_", "XDG_CACHE_HOME", "CC", "CXX", "COVERAGE_", "PYTHONHASHSEED", "PYTHONWARNINGS",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
MAX_LOG_LINE_BYTES = 16384


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What runs in the process and how long it may take. `args` are JSON-able keyword arguments of the factory."""

    factory: str = "model.engine:Engine.open"
    args: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    threads: int | None = None
    start_deadline_s: float = 300.0
    heartbeat_s: float = 1.0
    silence_limit_s: float = 15.0
    close_grace_s: float = 5.0


async def spawn(spec: EngineSpec, arena_fd: int) -> tuple[Process, socket.socket]:
    """Start `workers.gpu_worker`; the process and our end of its control socket. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "workers.gpu_worker",
                str(theirs.fileno()), str(arena_fd), str(os.getpid()),
                stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, limit=MAX_LOG_LINE_BYTES,
                pass_fds=(theirs.fileno(), arena_fd), start_new_session=True, env=_environment(spec),
            )  # fmt: skip
    except BaseException:
        ours.close()
        raise
    return process, ours


async def log_records(output: asyncio.StreamReader) -> AsyncIterator[tuple[int, str, dict[str, object]]]:
    """Level, message and extra fields of every line until the process closes its output; long lines come in pieces."""
    while True:
        try:
            raw = await output.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raw = await output.readexactly(max(error.consumed, 1))
        except asyncio.IncompleteReadError as error:
            if not error.partial:
                return
            raw = error.partial
        if line := raw.decode("utf-8", "replace").rstrip():
            yield _log_record(line)


def _log_record(line: str) -> tuple[int, str, dict[str, object]]:
    """Level, message and extra fields of a line: a record of `workers.gpu_worker`, or whatever a library printed."""
    try:
        record = json.loads(line)
        return int(record["level"]), str(record["message"]), {"engine_log": record["fields"]}
    except (ValueError, KeyError, TypeError):
        return logging.INFO, line, {}


def _environment(spec: EngineSpec) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)
    environment["PYTHONUNBUFFERED"] = "1"
    threads = os.environ.get("OMP_NUM_THREADS") if spec.threads is None else str(spec.threads)
    if threads is not None:
        environment |= dict.fromkeys(THREAD_VARIABLES, threads)
    return environment
