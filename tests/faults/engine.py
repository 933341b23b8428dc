"""The engine of the fault tests, in the real engine process: it tells whose audio it hears, and falls over when told.

In: windows. Out: for each the text of `tests.faults.mark`, one window per step and `pace_s` apart, so that work is in
flight. What a window's mark orders is done first: the process dies, stops or hangs. It notes every answer in
`folder/answered`: process, digest of the audio, windows under way. No torch here.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from model.answers import ChoiceAnswer, Question, Request, Response, TextAnswer
from tests.faults.mark import HANGS_ONCE, KILLS, KILLS_ONCE, STOPS_ONCE, Int16, Reading, digest, read, text_of

TONES = ("calm", "tense")
ASKED = {
    "speech": "tone",
    "scene": "mood",
}  # a type of event belongs to one track: its id does not name the track


def answers_to(audio: Int16, tasks: tuple[str, ...]) -> tuple[TextAnswer | ChoiceAnswer, ...]:
    """All that this engine says of a window; the tests expect the same."""
    found: list[TextAnswer | ChoiceAnswer] = []
    for task in tasks:
        if task.startswith("questions:"):
            label = TONES[int(digest(audio)[:2], 16) % 2]
            others = {tone: 0.25 for tone in TONES if tone != label}
            asked = ASKED[task.partition(":")[2]]
            found.append(ChoiceAnswer(task, asked, asked, label, {label: 0.75, **others}))
        else:
            found.append(TextAnswer(task, text_of(audio, task), "en", 0.5, None, None))
    return tuple(found)


class Telling:
    """See the module docstring."""

    questions = (
        Question("tone", "speech", "Which?", TONES, "tone"),
        Question("mood", "scene", "Which?", TONES, "mood"),
    )
    name = "telling"
    version = "1"
    max_samples = 30 * 16_000

    def __init__(self, device: str, folder: str, pace_s: float = 0.0, capacity: int = 8) -> None:
        self.device = device
        self.capacity = capacity
        self._folder = Path(folder)
        self._pace_s = pace_s
        self._under_way: list[Request] = []

    def warm_up(self) -> None:
        """Nothing to warm."""

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def submit(self, request: Request) -> None:
        self._under_way.append(request)

    def step(self) -> list[Response]:
        """Answer the one that is due first."""
        if not self._under_way:
            return []
        time.sleep(self._pace_s)
        request = min(self._under_way, key=lambda r: r.due_s)
        found = read(request.audio)
        if found is not None:
            self._obey(found)
        with open(self._folder / "answered", "a", encoding="ascii") as notes:
            notes.write(
                "%d %s %s %d\n" % (os.getpid(), request.tasks[0], digest(request.audio), len(self._under_way))
            )
        self._under_way.remove(request)
        return [Response(request.request_id, answers_to(request.audio, request.tasks), None)]

    def _obey(self, found: Reading) -> None:
        if found.action == KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        if found.action in (KILLS_ONCE, STOPS_ONCE, HANGS_ONCE) and self._first(found):
            if found.action == KILLS_ONCE:
                os.kill(os.getpid(), signal.SIGKILL)
            elif found.action == STOPS_ONCE:
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                threading.Event().wait()

    def _first(self, found: Reading) -> bool:
        """Whether no engine process has met this mark before."""
        try:
            (self._folder / f"met-{found.voice}-{found.place}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
