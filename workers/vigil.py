"""When an engine process counts as lost: judged by what was heard of it, and when.

In: what the process did (a sign of life, work taken, answers given) with the time of it. Out: a reason, or None. Does
not know processes, sockets or asyncio; time is an argument.
Invariants: a process is judged by its progress: work is in flight and none of it was answered for too long. Answers to
others excuse it for the window that is due first, which an engine looks at before any other, for `OVERTAKING` such
times and no longer: else one that hangs in a thread of its own would go unnoticed as long as any other gets on. A judge
whose own clock stood still gives everybody the time it was away.
"""

from __future__ import annotations

from dataclasses import dataclass

from workers.scheduler import SAMPLE_RATE

MOST_AUDIO_S = 240.0  # between two answers, however much is in flight
OVERTAKING = 4  # deadlines for which later windows may be answered while the one that is due first is not


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
        self._in_flight: dict[str, tuple[float, int]] = {}  # by request: when it is due, and its samples
        self._samples = 0
        self._first: str | None = None  # of those in flight the one that is due first
        self._first_s = now_s  # since when
        self._first_allowed_s = 0.0  # the most that an answer was allowed to take since then
        self._heard_s = now_s
        self._progress_s = now_s  # its start, then its last answer or the moment at which it got busy
        self._judged_s = now_s

    def heard(self, now_s: float) -> None:
        """Anything came from the process."""
        self._heard_s = now_s

    def ready(self) -> None:
        """It is warm: from now on silence and missing answers count."""
        self._ready = True

    def took(self, request_id: str, samples: int, due_s: float, now_s: float) -> None:
        """It was given one more window; `due_s` orders them, on any clock."""
        if not self._in_flight:
            self._progress_s = now_s
        self._in_flight[request_id] = (due_s, samples)
        self._samples += samples
        self._look_who_is_first(now_s)

    def answered(self, request_id: str, now_s: float) -> None:
        """It has answered one of its windows."""
        self._progress_s = now_s
        _, samples = self._in_flight.pop(request_id)
        self._samples -= samples
        self._look_who_is_first(now_s)

    def judge(self, now_s: float) -> str | None:
        """Why the process counts as lost; None while it does not."""
        late_s = now_s - self._judged_s - self._patience.beat_s
        self._judged_s = now_s
        if late_s > self._patience.late_s:
            self._heard_s = min(self._heard_s + late_s, now_s)
            self._progress_s = min(self._progress_s + late_s, now_s)
            self._first_s = min(self._first_s + late_s, now_s)
            return None
        if now_s - self._progress_s > self._allowed_s():
            return "missed its deadline"
        if self._first is not None and now_s - self._first_s > OVERTAKING * self._first_allowed_s:
            return "left a window behind"
        if self._ready and now_s - self._heard_s > self._patience.silence_limit_s:
            return "gave no sign of life"
        return None

    def _look_who_is_first(self, now_s: float) -> None:
        first = min(self._in_flight, key=lambda request_id: self._in_flight[request_id][0], default=None)
        if first != self._first:
            self._first, self._first_s, self._first_allowed_s = first, now_s, 0.0
        # it shares the engine: what was in flight beside it has slowed it down, though it may be answered by now
        self._first_allowed_s = max(self._first_allowed_s, self._allowed_s())

    def _allowed_s(self) -> float:
        """From the last progress to the next."""
        if not self._ready:
            return self._patience.start_deadline_s
        if not self._in_flight:
            return float("inf")
        audio_s = min(self._samples / SAMPLE_RATE, MOST_AUDIO_S)
        return self._patience.deadline_s + self._patience.deadline_per_audio_s * audio_s
