"""Engines for fault tests: real processes, real control socket, real shared memory; only the arithmetic is replaced.

The first sample of a window says what to do with it (see the constants), so a test marks windows by their audio. The
text answered is the hash of the audio, its length and its tasks, so a swapped or damaged window shows. No torch here.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.answers import ChoiceAnswer, Question, Request, Response, TextAnswer, Word

KILLS = -101  # ends the process, as a segmentation fault would
HANGS = -102  # never answers, but its heart beats
STOPS = -103  # stops the whole process, heart included
REFUSED = -104  # an error of this request alone
RAISES = -105  # an exception out of `run`
NOT_FINITE = -106  # a probability that is not a number
WAITS = -107  # waits for the file `gate` to appear

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

    def __init__(self, device: str, gate: str = "", batches: str = "") -> None:
        self.device = device
        self._gate = Path(gate)
        self._batches = batches

    def warm_up(self) -> None:
        """Nothing to warm."""

    def run(self, requests: Sequence[Request]) -> list[Response]:
        if self._batches:
            with open(self._batches, "a", encoding="utf-8") as log:
                log.write("%d\n" % len(requests))
        return [self._answer(r) for r in reversed(requests)]  # an engine may answer in any order

    def _answer(self, request: Request) -> Response:
        mark = int(request.audio[0]) if len(request.audio) else 0
        if mark == KILLS:
            os.kill(os.getpid(), signal.SIGSEGV)
        if mark == HANGS:
            threading.Event().wait()
        if mark == STOPS:
            os.kill(os.getpid(), signal.SIGSTOP)
        if mark == RAISES:
            raise RuntimeError(CANARY)
        if mark == REFUSED:
            return Response(request.request_id, (), "refused")
        while mark == WAITS and not self._gate.exists():
            time.sleep(0.005)
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


def broken(device: str) -> Hashing:
    """A checkpoint that cannot be loaded."""
    raise ValueError("the checkpoint for %s has no decoder" % device)


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

    def run(self, requests: Sequence[Request]) -> list[Response]:
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
