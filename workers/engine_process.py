"""One engine process as the worker sees it: start it, hand it windows, notice that it is gone, replace nothing.

In: a device, an engine factory by its import path, windows of audio. Out: responses as they come, or the reason why the
process is lost. Does not know sessions, queues or which window comes next. Nothing here blocks the event loop.
Invariants: a window has a place in shared memory of its own until it is answered; a process is lost exactly once, by
EOF (it died), by silence or by its deadline (`workers.vigil`), and is then killed with all it started.
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
from collections.abc import Callable, Sequence
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
from workers.vigil import Patience, Vigil

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ready:
    """What a process says of itself once it is warm.

    `max_samples`: longest window it takes, at 16 kHz; `capacity`: how many it wants under way at a time.
    """

    model_name: str
    model_version: str
    device: str
    questions: tuple[Question, ...]
    max_samples: int
    capacity: int
    load_s: float
    warm_up_s: float


@dataclass(frozen=True, slots=True)
class Ask:
    """One window: int16 audio `[n]` at 16 kHz, its tasks, and when it is due (the earliest goes first)."""

    request_id: str
    audio: Audio
    tasks: tuple[str, ...]
    due_s: float


@dataclass(frozen=True, slots=True)
class Room:
    """How much a process may hold: so many windows, each of so many samples at most."""

    places: int
    place_samples: int


class StartFailed(Exception):
    """The process did not get as far as ready; the message says why."""


class ChildLost(Exception):
    """The process is gone; whatever was in flight is unanswered."""


class EngineProcess:
    """A live engine process. Made by `start`; `submit` whenever there is room; `close` or `kill` ends it.

    `on_news` is called when there is something to `collect`, and when it is `lost`.
    """

    def __init__(
        self,
        spec: EngineSpec,
        process: Process,
        sock: socket.socket,
        arena: Arena,
        vigil: Vigil,
        on_news: Callable[[], None],
    ) -> None:
        self.pid = process.pid
        self.rss_bytes = 0
        self.ready: Ready
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._spec = spec
        self._process = process
        self._socket = sock
        self._arena = arena
        self._vigil = vigil
        self._on_news = on_news
        self._writer: asyncio.StreamWriter | None = None
        self._tail: deque[str] = deque(maxlen=5)
        self._became_ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._in_flight: dict[str, int] = {}  # where the audio of each begins, in samples
        self._answers: list[Response] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._freed = False
        self._explained = False

    @classmethod
    async def start(
        cls,
        spec: EngineSpec,
        device_args: dict[str, str],
        room: Room,
        patience: Patience,
        on_news: Callable[[], None],
    ) -> EngineProcess:
        """Spawn, load and warm up. Raises StartFailed; nothing of the process is left then."""
        try:
            arena = Arena.create(room.places, room.place_samples)
        except OSError as error:
            raise StartFailed(f"no shared memory: {error.strerror}") from error
        try:
            process, ours = await spawn(spec, arena.fd)
        except BaseException as error:
            arena.close()
            if isinstance(error, OSError):
                raise StartFailed(f"the process could not be spawned: {error.strerror}") from error
            raise
        vigil = Vigil(patience, asyncio.get_running_loop().time())
        self = cls(spec, process, ours, arena, vigil, on_news)
        try:
            self.ready = await self._open({**spec.args, **device_args})
        except BaseException:
            await self.kill("did not start")
            raise
        return self

    def submit(self, asks: Sequence[Ask]) -> None:
        """Hand over windows, whatever is under way. Raises ValueError for more, or longer ones, than there is room."""
        requests = []
        for ask in asks:
            start, samples = self._arena.write(ask.audio), len(ask.audio)
            self._in_flight[ask.request_id] = start
            self._vigil.took(ask.request_id, samples, ask.due_s, self._now())
            requests.append(
                {
                    "request_id": ask.request_id,
                    "start": start,
                    "samples": samples,
                    "tasks": ask.tasks,
                    "due_s": ask.due_s,
                }
            )
        self._send({"kind": "run", "requests": requests})

    def collect(self) -> list[Response]:
        """The responses that have come since the last call."""
        answers, self._answers = self._answers, []
        return answers

    async def close(self) -> None:
        """Ask an idle process to end and kill it when it has not within `close_grace_s`; kill a busy one at once."""
        if not self.lost.done() and not self._in_flight:
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
        return self._became_ready.result()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                message = await read(reader)
                self._vigil.heard(self._now())
                self._take(message)
        except EOFError:
            self._lose("died")
        except (ProtocolError, KeyError, TypeError):
            self._lose("sent what is not our protocol")

    def _take(self, message: Message) -> None:
        self.rss_bytes = message.get("rss_bytes", self.rss_bytes)
        match message["kind"]:
            case "ready" if not self._became_ready.done():
                self._vigil.ready()
                self._became_ready.set_result(
                    Ready(
                        model_name=message["name"],
                        model_version=message["version"],
                        device=message["device"],
                        questions=tuple(question_from(q) for q in message["questions"]),
                        max_samples=message["max_samples"],
                        capacity=message["capacity"],
                        load_s=message["load_s"],
                        warm_up_s=message["warm_up_s"],
                    )
                )
            case "start_failed":
                self._explained = True
                self._lose(message["detail"])
            case "done":
                for response in message["responses"]:
                    self._land(response_from(response))
                self._on_news()
            case "heartbeat":
                pass
            case _:
                raise ProtocolError("an unexpected message")

    def _land(self, response: Response) -> None:
        """A window is answered, and its place is free. KeyError for an answer to nothing."""
        self._arena.free(self._in_flight.pop(response.request_id))
        self._vigil.answered(response.request_id, self._now())
        self._answers.append(response)

    async def _watch(self) -> None:
        while not self.lost.done():
            await asyncio.sleep(self._spec.heartbeat_s / 2)
            if reason := self._vigil.judge(self._now()):
                self._lose(reason)

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
            self._on_news()
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
