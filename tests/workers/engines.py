"""Engines for fault tests: real processes, real control socket, real shared memory; only the arithmetic is replaced.

The first sample of a window says what to do with it (see the constants), so a test marks windows by their audio. The
text answered is the hash of the audio, its length and its tasks, so a swapped or damaged window shows. No torch here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.answers import ChoiceAnswer, Question, Request, Response, TextAnswer, Word
from streams.errors import Unavailable

KILLS = -101  # ends the process, as a segmentation fault would
HANGS = -102  # never answers, but its heart beats
STOPS = -103  # stops the whole process, heart included
REFUSED = -104  # an error of this request alone
RAISES = -105  # an exception out of `step`
NOT_FINITE = -106  # a probability that is not a number
WAITS = -107  # is under way until the file `gate` appears; others are answered meanwhile
KILLS_LATER = -108  # both

CANARY = "canary phrase that no log may hold"


def text_of(audio: np.ndarray, tasks: Sequence[str]) -> str:
    """What `Hashing` hears in a window."""
    return "%s:%d:%s" % (hashlib.sha256(audio.tobytes()).hexdigest(), len(audio), "+".join(tasks))


class Hashing:
    """Answers with the hash of what it got, or does what the first sample says."""

    questions = (Question("music", "scene", "Is there music?", ("yes", "no"), "music"),)
    name = "hashing"
    version = "1"
    max_samples = 30 * 16_000

    def __init__(self, device: str, gate: str = "", log: str = "", capacity: int = 64) -> None:
        self.device = device
        self.capacity = capacity
        self._gate = Path(gate)
        self._log = log
        self._logged = 0
        self._under_way: list[Request] = []

    def warm_up(self) -> None:
        """Nothing to warm."""

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def submit(self, request: Request) -> None:
        self._under_way.append(request)

    def step(self) -> list[Response]:
        """Answer everything that does not wait, last come first: an engine may answer in any order."""
        self._tell(len(self._under_way))
        waiting = [r for r in self._under_way if _mark(r) in (WAITS, KILLS_LATER)]
        if self._gate.is_file():
            waiting = []
        ready = [r for r in self._under_way if r not in waiting]
        if not ready:
            time.sleep(0.005)
        answered = [self._answer(r) for r in reversed(ready)]
        self._under_way = waiting
        return answered

    def run(self, requests: Sequence[Request]) -> list[Response]:
        """As `model.engine.Engine.run`: in the order of the requests."""
        for request in requests:
            self.submit(request)
        found: dict[str, Response] = {}
        while self.busy:
            found |= {r.request_id: r for r in self.step()}
        return [found[r.request_id] for r in requests]

    def _tell(self, under_way: int) -> None:
        """A line with this process and how many windows are in it, whenever that changes."""
        if self._log and under_way != self._logged:
            self._logged = under_way
            with open(self._log, "a", encoding="utf-8") as log:
                log.write("%d %d\n" % (os.getpid(), under_way))

    def _answer(self, request: Request) -> Response:
        mark = _mark(request)
        if mark in (KILLS, KILLS_LATER):
            os.kill(os.getpid(), signal.SIGSEGV)
        if mark == HANGS:
            threading.Event().wait()
        if mark == STOPS:
            os.kill(os.getpid(), signal.SIGSTOP)
        if mark == RAISES:
            raise RuntimeError(CANARY)
        if mark == REFUSED:
            return Response(request.request_id, (), "refused")
        text = text_of(request.audio, request.tasks)
        words = (Word(text, 0, 10, 0.5),)
        yes = float("nan") if mark == NOT_FINITE else 0.75
        return Response(
            request.request_id,
            (
                TextAnswer(request.tasks[0], text, "en", 0.5, words, "ctc"),
                ChoiceAnswer("question:music", "music", "music", "yes", {"yes": yes, "no": 0.25}),
            ),
            None,
        )


def _mark(request: Request) -> int:
    return int(request.audio[0]) if len(request.audio) else 0


def broken(device: str, says: str = "") -> Hashing:
    """An engine that cannot be opened; `says`: for a reason that a library words."""
    if says:
        logging.getLogger(__name__).warning("a library logs", exc_info=ValueError(says))
        thread = threading.Thread(target=_fail, args=(says,))
        thread.start()
        thread.join()
        _fail(says)
    raise Unavailable("the checkpoint for %s has no decoder" % device)


def _fail(says: str) -> None:
    raise ValueError(says)


class DiesWarming(Hashing):
    """Comes apart before it is ready, without a word."""

    def warm_up(self) -> None:
        os._exit(7)


class DiesIdle(Hashing):
    """Gets ready and dies of itself."""

    def warm_up(self) -> None:
        threading.Timer(0.2, os._exit, (9,)).start()


class KillsAlways(Hashing):
    """A device that breaks with whatever it is given."""

    def step(self) -> list[Response]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


def fails_once(device: str, marker: str) -> Hashing:
    """Fails at its first start, works at its second."""
    if not Path(marker).exists():
        Path(marker).write_text("failed once", encoding="utf-8")
        raise ValueError("first start")
    return Hashing(device)


class Surroundings(Hashing):
    """Tells as its version which environment variables it can see, and with how many threads it may compute."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.version = ",".join(sorted(os.environ)) + ";" + os.environ.get("OMP_NUM_THREADS", "")


class Versioned(Hashing):
    """Has its version from its checkpoint, a file that begins with it; more words in there say what goes wrong:

    `fails` (or `fails:DEVICE`), `babbles` in silence, `shorter` windows only, `waits` in its warm-up until the file
    `gate` beside it appears (its process id is then in `pid`).
    """

    def __init__(
        self, device: str, checkpoint_path: str, expected_sha256: str | None = None, **more: str
    ) -> None:
        super().__init__(device, **more)
        raw = Path(checkpoint_path).read_bytes()
        if expected_sha256 not in (None, hashlib.sha256(raw).hexdigest()):
            raise Unavailable("another digest")
        self.version, *self._faults = raw.decode().split()
        self._folder = Path(checkpoint_path).parent
        if {"fails", "fails:" + device} & set(self._faults):
            raise Unavailable("checkpoint %s fails" % self.version)
        if "shorter" in self._faults:
            self.max_samples = 16_000

    def warm_up(self) -> None:
        """As slow as it is told to be."""
        if "waits" in self._faults:
            (self._folder / "pid").write_text(str(os.getpid()))
            while not (self._folder / "gate").exists():
                time.sleep(0.005)

    def _answer(self, request: Request) -> Response:
        if request.audio.any():
            return super()._answer(request)
        text = "hello" if "babbles" in self._faults else ""
        return Response(request.request_id, (TextAnswer("transcript", text, None, None, (), None),), None)
