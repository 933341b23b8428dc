"""When an engine process counts as lost: judged by what was heard of it, and when.

In: what the process did (a sign of life, work taken, answers given) with the time of it. Out: a reason, or None. Does
not know processes, sockets or asyncio; time is an argument.
Invariants: a process is judged by its progress and not by any one window: work is in flight and none of it was
answered for too long; a judge whose own clock stood still gives everybody the time it was away.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.scheduler import SAMPLE_RATE

MOST_AUDIO_S = 240.0  # between two answers, however much is in flight


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a process may be silent, take to start, and take between two answers.

    The last one is `deadline_s + deadline_per_audio_s · seconds of audio in flight`, of which 240 s count at most. A
    judge comes every `beat_s`; one that comes more than `late_s` after that does not judge.
    """

    silence_limit_s: float
    start_deadline_s: float
    deadline_s: float
    deadline_per_audio_s: float
    beat_s: float
    late_s: float


class Vigil:
    """Watches one process from its start; `judge` it every `beat_s`."""

    def __init__(self, patience: Patience, now_s: float) -> None:
        self._patience = patience
        self._ready = False
        self._windows = 0
        self._samples = 0
        self._heard_s = now_s
        self._progress_s = now_s  # its start, then its last answer or the moment at which it got busy
        self._judged_s = now_s

    def heard(self, now_s: float) -> None:
        """Anything came from the process."""
        self._heard_s = now_s

    def ready(self) -> None:
        """It is warm: from now on silence and missing answers count."""
        self._ready = True

    def took(self, samples: int, now_s: float) -> None:
        """It was given one more window."""
        if not self._windows:
            self._progress_s = now_s
        self._windows += 1
        self._samples += samples

    def answered(self, samples: int, now_s: float) -> None:
        """It has answered one of its windows."""
        self._progress_s = now_s
        self._windows -= 1
        self._samples -= samples

    def judge(self, now_s: float) -> str | None:
        """Why the process counts as lost; None while it does not."""
        late_s = now_s - self._judged_s - self._patience.beat_s
        self._judged_s = now_s
        if late_s > self._patience.late_s:
            self._heard_s = min(self._heard_s + late_s, now_s)
            self._progress_s = min(self._progress_s + late_s, now_s)
            return None
        if now_s - self._progress_s > self._allowed_s():
            return "missed its deadline"
        if self._ready and now_s - self._heard_s > self._patience.silence_limit_s:
            return "gave no sign of life"
        return None

    def _allowed_s(self) -> float:
        """From the last progress to the next."""
        if not self._ready:
            return self._patience.start_deadline_s
        if not self._windows:
            return float("inf")
        audio_s = min(self._samples / SAMPLE_RATE, MOST_AUDIO_S)
        return self._patience.deadline_s + self._patience.deadline_per_audio_s * audio_s
