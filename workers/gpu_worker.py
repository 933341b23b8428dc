"""The engine process: `python -m workers.gpu_worker CONTROL_FD ARENA_FD PARENT_PID`, one per device.

In: control frames and audio in shared memory. Out: one response per request, as soon as it is ready, and a heartbeat
while idle and busy. Does not know Kafka, Faust, sessions or other processes; it loads an engine by its import path.
Invariants: what has arrived is handed to the engine before its next step, whatever is under way; SIGINT and SIGTERM
are the parent's business; when the parent is gone this process ends by itself, at once and with all it started; an
exception out of the engine ends the process (the device may be in any state); no log and no message says what an
exception said that is not worded by us, whoever logs it and in whichever thread it ends.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast

from model.answers import Question, Request, Response
from workers.ipc import Arena, Channel, Message, ProtocolError, response_message
from workers.places import tell_uncaught, whereabouts, wording

logger = logging.getLogger("workers.gpu_worker")

PR_SET_PDEATHSIG = 1
EXIT_START_FAILED = 3
EXIT_STEP_FAILED = 4


class Engine(Protocol):
    """What this process needs of `model.engine.Engine`."""

    name: str
    version: str
    device: str
    questions: tuple[Question, ...]
    max_samples: int
    capacity: int  # windows it wants under way at a time

    def warm_up(self) -> None: ...
    def submit(self, request: Request) -> None: ...
    def step(self) -> list[Response]: ...
    @property
    def busy(self) -> bool: ...


class Heart:
    """Tells the parent every `interval_s` that this process lives, what it works on and how much memory it takes."""

    def __init__(self, channel: Channel, interval_s: float) -> None:
        self._channel = channel
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _beat(self) -> None:
        while not self._stopped.wait(self._interval_s):
            try:
                self._channel.send({"kind": "heartbeat", "rss_bytes": rss_bytes()})
            except OSError:
                _die_with_parent()


def main(argv: Sequence[str]) -> int:
    """Serve until the parent says close (0), the engine cannot start (3) or a step raises (4)."""
    control_fd, arena_fd, parent_pid = (int(a) for a in argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with(parent_pid)
    _log_as_json()
    channel = Channel(control_fd)
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(channel, inbox), name="control", daemon=True).start()

    opening = inbox.get()
    heart = Heart(channel, float(opening["heartbeat_s"]))
    heart.start()
    try:
        engine, ready = _open(opening)
    except Exception as error:  # noqa: BLE001 - whatever a checkpoint or a driver raises is the parent's to report
        logger.error("the engine did not start: %s", whereabouts(error))
        channel.send({"kind": "start_failed", "detail": wording(error)})
        return EXIT_START_FAILED
    channel.send(ready)
    return _serve(engine, channel, Arena.attach(arena_fd), inbox, heart)


def _open(opening: Message) -> tuple[Engine, Message]:
    started_s = time.monotonic()
    engine = _build(opening["factory"], opening["args"])
    loaded_s = time.monotonic()
    engine.warm_up()
    ready = {
        "kind": "ready",
        "name": engine.name,
        "version": engine.version,
        "device": engine.device,
        "max_samples": engine.max_samples,
        "capacity": engine.capacity,
        "questions": [asdict(q) for q in engine.questions],
        "load_s": loaded_s - started_s,
        "warm_up_s": time.monotonic() - loaded_s,
        "rss_bytes": rss_bytes(),
    }
    return engine, ready


def _build(factory: str, args: dict[str, Any]) -> Engine:
    """Call `package.module:Name.attribute` with keyword arguments."""
    module_name, _, attributes = factory.partition(":")
    target: Any = importlib.import_module(module_name)
    for attribute in attributes.split("."):
        target = getattr(target, attribute)
    return cast(Engine, target(**args))


def _serve(
    engine: Engine, channel: Channel, arena: Arena, inbox: queue.SimpleQueue[Message], heart: Heart
) -> int:
    """Take in what has arrived, do one step, say what became ready; and again."""
    busy = False
    while (requests := _arrived(inbox, arena, wait=not busy)) is not None:
        try:
            for request in requests:
                engine.submit(request)
            responses = engine.step()
            busy = engine.busy
        except Exception as error:  # noqa: BLE001 - ends the process; see the module's invariant
            logger.error("the engine raised %s", whereabouts(error))
            return EXIT_STEP_FAILED
        if not responses:
            continue
        channel.send(
            {
                "kind": "done",
                "rss_bytes": rss_bytes(),
                "responses": [response_message(r) for r in responses],
            }
        )
    heart.stop()
    return 0


def _arrived(inbox: queue.SimpleQueue[Message], arena: Arena, *, wait: bool) -> list[Request] | None:
    """Every request that has come since the last call, or with `wait` the first that comes; None to end."""
    found: list[Request] = []
    while wait or not inbox.empty():
        message = inbox.get()
        wait = False
        if message["kind"] == "close":
            return None
        if message["kind"] != "run":
            raise ProtocolError("the parent asked for something unknown")
        found += (
            Request(r["request_id"], arena.read(r["start"], r["samples"]), tuple(r["tasks"]), r["due_s"])
            for r in message["requests"]
        )
    return found


class _JsonLines(logging.Formatter):
    """One record per line, extra fields included; `workers.spawn` reads it back."""

    _KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: str(v) for k, v in vars(record).items() if k not in self._KNOWN}
        message = f"{record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            message += ": " + whereabouts(record.exc_info[1])
        return json.dumps({"level": record.levelno, "message": message, "fields": fields})


def _log_as_json() -> None:
    """All logs, and what nobody catches, as lines for the parent."""
    tell_uncaught(logger.error)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _receive(channel: Channel, inbox: queue.SimpleQueue[Message]) -> None:
    try:
        while True:
            inbox.put(channel.receive())
    except (EOFError, OSError, ProtocolError):
        _die_with_parent()


def _die_with_parent() -> NoReturn:
    """The parent is gone. The main thread may be deep in a kernel, and compilers may run below us: end the group."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _end_with(parent_pid: int) -> None:
    """Have Linux kill this process with its parent: a stopped or hung child does not notice EOF by itself."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def rss_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    status = main(sys.argv[1:])
    logging.shutdown()
    sys.stderr.flush()
    os._exit(status)  # threads of the engine may be deep in a window: nobody waits for them
