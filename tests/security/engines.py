"""Engines for these tests: processes that answer by hash, but all at once, or with a phrase that must stay inside."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from model.answers import Request, Response, TextAnswer
from tests.workers.engines import CANARY, RAISES, Hashing


class Gathering(Hashing):
    """Answers nothing until `least` windows are in it together, or until the file `gate` is there; then all of them.

    `log` gets a line per such step: the hashes of the windows' audio.
    """

    def __init__(self, device: str, least: int, gate: str, log: str) -> None:
        super().__init__(device, gate=gate)
        self._least = least
        self._steps = Path(log)

    def step(self) -> list[Response]:
        if len(self._under_way) < self._least and not self._gate.is_file():
            time.sleep(0.005)
            return []
        with self._steps.open("a", encoding="utf-8") as log:
            log.write(" ".join(hashlib.sha256(r.audio.tobytes()).hexdigest() for r in self._under_way) + "\n")
        return super().step()


class Canary(Hashing):
    """Hears the same phrase in every window, and says it too when it fails (windows that begin with RAISES)."""

    def _answer(self, request: Request) -> Response:
        if len(request.audio) and request.audio[0] == RAISES:
            raise RuntimeError(CANARY)
        answered = super()._answer(request)
        texts = (TextAnswer(request.tasks[0], CANARY, "en", 0.5, None, None), *answered.answers[1:])
        return Response(request.request_id, texts, None)
