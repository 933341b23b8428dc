"""One engine process as the worker sees it: start it, give it batches, notice that it is gone, replace nothing.

In: a device, an engine factory by its import path, batches of audio. Out: responses, or `ChildLost` with the reason.
Does not know windows, sessions, queues or which batch comes next. Nothing here blocks the event loop.
Invariants: a process is lost exactly once, by EOF (it died), by silence (no heartbeat) or by its deadline (counted
after warm-up), and is then killed with all it started; an event loop that stood still judges nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model.answers import Question, Response
from workers.ipc import (
    MAX_FRAME_BYTES,
    Arena,
    Audio,
    Message,
    ProtocolError,
    encode,
    question_from,
    read,
    response_from,
)
from workers.spawn import EngineSpec, log_records, spawn

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a process says of itself once it is warm. `max_samples`: longest window it takes, at 16 kHz."""

    model_name: str
    model_version: str
    device: str
    questions: tuple[Question, ...]
    max_samples: int
    load_s: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One window of a batch: int16 audio `[n]` at 16 kHz and its tasks."""

    request_id: str
    audio: Audio
    tasks: tuple[str, ...]


class StartFailed(Exception):
    """The process did not get as far as ready; the message says why."""


class ChildLost(Exception):
    """The process is gone; whatever it ran is unanswered."""


class EngineProcess:
    """A live engine process. Made by `start`; `run` takes one batch at a time; `close` or `kill` ends it."""

    def __init__(self, spec: EngineSpec, process: Process, sock: socket.socket, arena: Arena) -> None:
        self.pid = process.pid
        self.rss_bytes = 0
        self.ready: Ready
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._spec = spec
        self._process = process
        self._socket = sock
        self._arena = arena
        self._writer: asyncio.StreamWriter | None = None
        self._tail: deque[str] = deque(maxlen=5)
        self._became_ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._batch = 0
        self._done: asyncio.Future[list[Response]] | None = None
        self._busy = False
        self._deadline_s: float | None = None
        self._heard_s = self._now()
        self._tasks: list[asyncio.Task[None]] = []
        self._freed = False
        self._explained = False

    @classmethod
    async def start(cls, spec: EngineSpec, device_args: dict[str, str], arena_samples: int) -> EngineProcess:
        """Spawn, load and warm up. Raises StartFailed; nothing of the process is left then."""
        arena = Arena.create(arena_samples)
        try:
            process, ours = await spawn(spec, arena.fd)
        except BaseException as error:
            arena.close()
            if isinstance(error, OSError):
                raise StartFailed(f"the process could not be spawned: {error.strerror}") from error
            raise
        self = cls(spec, process, ours, arena)
        try:
            self.ready = await self._open({**spec.args, **device_args})
        except BaseException:
            await self.kill("did not start")
            raise
        return self

    async def run(self, asks: Sequence[Ask], *, deadline_s: float) -> list[Response]:
        """Run one batch within `deadline_s` seconds; responses in the order asked. Raises ChildLost."""
        if self._done is not None:
            raise RuntimeError("one batch at a time")
        self._batch += 1
        places = self._arena.write(a.audio for a in asks)
        requests = [
            {"request_id": a.request_id, "start": start, "samples": samples, "tasks": a.tasks}
            for a, (start, samples) in zip(asks, places, strict=True)
        ]
        self._done = asyncio.get_running_loop().create_future()
        self._deadline_s = self._now() + deadline_s
        try:
            self._busy = True
            self._send({"kind": "run", "batch": self._batch, "requests": requests})
            await first_of(self._done, self.lost)
            if not self._done.done():
                raise ChildLost(self.lost.result())
            by_id = {r.request_id: r for r in self._done.result()}
            if by_id.keys() != {a.request_id for a in asks}:
                self._lose("answered something else than it was asked")
                raise ChildLost(self.lost.result())
            return [by_id[a.request_id] for a in asks]
        finally:
            self._done = None
            self._deadline_s = None

    async def close(self) -> None:
        """Ask an idle process to end and kill it when it has not within `close_grace_s`; kill a busy one at once."""
        if not self.lost.done() and not self._busy:
            with contextlib.suppress(ConnectionError):
                self._send({"kind": "close"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), self._spec.close_grace_s)
        await self.kill("closed")

    async def kill(self, reason: str) -> None:
        """End the process with all it started, and free what belongs to it. May be called more than once."""
        self._lose(reason)
        await self._process.wait()
        if self._freed:
            return
        self._freed = True
        if self._tasks:
            await asyncio.wait(self._tasks[2:], timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        self._arena.close()

    @property
    def exit_status(self) -> int | None:
        """Of the process: negative for a signal, None while it lives."""
        return self._process.returncode

    async def _open(self, args: dict[str, str | int | float | bool | None]) -> Ready:
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=MAX_FRAME_BYTES)
        self._deadline_s = self._now() + self._spec.start_deadline_s
        for work in (self._listen(reader), self._watch(), self._relay_log()):
            self._tasks.append(asyncio.create_task(work))
        self._send(
            {
                "kind": "open",
                "factory": self._spec.factory,
                "args": args,
                "heartbeat_s": self._spec.heartbeat_s,
            }
        )
        await first_of(self._became_ready, self.lost)
        if not self._became_ready.done():
            await self._process.wait()
            await asyncio.wait(self._tasks[2:], timeout=1.0)  # its last lines explain it
            raise StartFailed(" | ".join([self.lost.result(), *([] if self._explained else self._tail)]))
        self._deadline_s = None
        return self._became_ready.result()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message = await read(reader)
                self._heard_s = self._now()
                self._take(message)
        except EOFError:
            self._lose("died")
        except (ProtocolError, KeyError, TypeError):
            self._lose("sent what is not our protocol")

    def _take(self, message: Message) -> None:
        self.rss_bytes = message.get("rss_bytes", self.rss_bytes)
        match message["kind"]:
            case "ready" if not self._became_ready.done():
                self._became_ready.set_result(
                    Ready(
                        model_name=message["name"],
                        model_version=message["version"],
                        device=message["device"],
                        questions=tuple(question_from(q) for q in message["questions"]),
                        max_samples=message["max_samples"],
                        load_s=message["load_s"],
                        warm_up_s=message["warm_up_s"],
                    )
                )
            case "start_failed":
                self._explained = True
                self._lose(message["detail"])
            case "done" if message["batch"] == self._batch and self._busy:
                self._busy = False
                if self._done is not None and not self._done.done():
                    self._done.set_result([response_from(r) for r in message["responses"]])
            case "heartbeat":
                pass
            case _:
                raise ProtocolError("an unexpected message")

    async def _watch(self) -> None:
        """Judge silence and deadlines at every beat, but not after a beat on which our own loop came late."""
        beat_s = self._spec.heartbeat_s / 2
        previous_s = self._now()
        while not self.lost.done():
            await asyncio.sleep(beat_s)
            now_s = self._now()
            late_s = now_s - previous_s - beat_s
            previous_s = now_s
            if late_s > self._spec.heartbeat_s:
                self._heard_s += late_s
                if self._deadline_s is not None:
                    self._deadline_s += late_s
            elif self._deadline_s is not None and now_s > self._deadline_s:
                self._lose("missed its deadline")
            elif self._became_ready.done() and now_s - self._heard_s > self._spec.silence_limit_s:
                self._lose("gave no sign of life")

    async def _relay_log(self) -> None:
        """The process's lines as log records of ours; its last ones explain a failed start."""
        output = self._process.stdout
        assert output is not None
        async for level, message, fields in log_records(output):
            self._tail.append(message)
            logger.log(level, "engine process: %s", message, extra={"engine_pid": self.pid, **fields})

    def _lose(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _send(self, message: Message) -> None:
        if self._writer is not None:
            self._writer.write(encode(message))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def first_of(*futures: asyncio.Future[Any]) -> None:
    """Wait until one of them is done; cancels none."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


def describe(reason: str, exit_status: int | None) -> str:
    """Why a process is gone: "died (SIGSEGV)", "died (exit status 4)", "missed its deadline (SIGKILL)"."""
    if exit_status is None:
        return reason
    if exit_status >= 0:
        return f"{reason} (exit status {exit_status})"
    return f"{reason} ({signal.Signals(-exit_status).name})"
