"""A look into simulated workers: do they keep their limits, and where did they cut sessions off to make room?

In: a pipeline class, production's or a broken one. Out: the same, watched: the history says whenever a limit was
exceeded, and a `Trail` keeps each step that a track took, those included that one commit sums up in its last position.
Invariant: what is watched behaves as it would alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from storage.sink import TrackPosition
from streams.messages import Chunk, SessionEnd, SessionKey
from streams.windows import Boundary, Track
from tests.sim.limits import ONE_RECORD_WINDOWS
from workers.partition import Partition
from workers.pipeline import Pipeline, PipelineLimits
from workers.session import Session

Place = tuple[SessionKey, int, str]
Steps = list[TrackPosition]


@dataclass
class Stops:
    """Samples at which a track ended a run (`ends`), and at which it cut one that went on (`cuts`)."""

    ends: set[int] = field(default_factory=set)
    cuts: set[int] = field(default_factory=set)


@dataclass
class Trail:
    """Positions in the order in which each life of a session reached them, by the object that a commit carries."""

    reached: dict[int, tuple[Steps, int]] = field(default_factory=dict)

    def follow(self, session: Session) -> None:
        """Keep what this session reaches from now on."""
        steps: dict[tuple[int, Track], Steps] = {}
        make: Callable[[int, Track, Boundary], TrackPosition] = session._position

        def kept(channel: int, track: Track, after: Boundary) -> TrackPosition:
            position = make(channel, track, after)
            mine = steps.setdefault((channel, track), [])
            mine.append(position)
            self.reached[id(position)] = (mine, len(mine))
            return position

        session._position = kept  # type: ignore[method-assign]

    def stops(self, history: list[tuple[Any, ...]]) -> dict[Place, Stops]:
        """Where each track stopped, as far as that was committed."""
        found: dict[Place, Stops] = {}
        for entry in history:
            for position in entry[1].positions if entry[0] == "commit" else ():
                steps, count = self.reached.get(id(position), ([], 0))
                stops = found.setdefault((position.key, position.channel, position.track), Stops())
                for step in steps[:count]:
                    (stops.ends if step.sample == step.run_start else stops.cuts).add(step.sample)
        return found


def watched(
    build: type[Pipeline], limits: PipelineLimits, trail: Trail, history: list[tuple[Any, ...]]
) -> type[Pipeline]:
    """The same pipeline, looked at after each record and tick."""

    class Watched(build):  # type: ignore[valid-type,misc]
        followed: Session | None = None

        async def _session(self, part: Partition, message: Chunk | SessionEnd) -> Session:
            known = part.sessions.get(message.key)
            session: Session = await super()._session(part, message)
            if session is not known:
                trail.follow(session)
                self._look("sessions", self._open_sessions(), limits.max_sessions)
            return session

        def _analyse(self, part: Partition, *rest: Any) -> None:
            super()._analyse(part, *rest)
            self._look("windows", self._inflight, limits.max_inflight_windows + ONE_RECORD_WINDOWS)

        async def _bound_memory(self) -> None:
            await super()._bound_memory()
            if all(self._has_room(part) for part in self._partitions.values()):
                self._look("bytes", self._held_bytes(), limits.max_held_bytes)

        def _look(self, what: str, now: int, most: int) -> None:
            if now > most:
                history.append(("exceeds", what, now, most))

    return Watched
