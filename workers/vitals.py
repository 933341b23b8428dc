"""What a worker knows of its own health: is it alive, and would it do its work if work came now?

In: the parts of the worker, once they are there. Out: a `Report` with its reasons. Asks nobody: every figure is at hand
already, so a report costs nothing and cannot hang. Knows no HTTP, no Kafka, no SQL. Invariant: reasons name states and
numbers, never a text, an address or a secret.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from workers.app import EdgeState
from workers.pool import Health


class Edge(Protocol):
    """What is asked of `workers.app.Edge`."""

    def state(self) -> EdgeState: ...


class Engine(Protocol):
    """What is asked of `workers.pool.EnginePool`."""

    @property
    def warm(self) -> bool: ...
    def health(self) -> Health: ...


class Pipeline(Protocol):
    """What is asked of `workers.pipeline.Pipeline`: when the store last answered, on the clock of the event loop."""

    @property
    def store_answered_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to one question; `facts` are for people and dashboards."""

    ok: bool
    reasons: tuple[str, ...]
    facts: dict[str, Any]


class Vitals:
    """Starts out as a worker that is starting; `serving` tells it of the parts."""

    def __init__(self, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`silence_s`: how long the loop or the store may be silent before that is a reason."""
        self._silence_s = silence_s
        self._clock = clock
        self._parts: tuple[Edge, Engine, Pipeline] | None = None
        self._checkpoint: Callable[[], dict[str, Any]] = dict

    def serving(
        self,
        edge: Edge,
        engine: Engine,
        pipeline: Pipeline,
        checkpoint: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """All parts are there; `checkpoint` says which one runs and which one should (`workers.swap`)."""
        self._parts = (edge, engine, pipeline)
        self._checkpoint = checkpoint

    def live(self) -> Report:
        """Whether the process gets on by itself; no fault of a dependency makes it dead."""
        if self._parts is None:
            return _report([], {"stage": "starting"})
        state = self._parts[0].state()
        reasons = []
        if state.ticked_s > self._silence_s:
            reasons.append(f"no tick for {state.ticked_s:.0f} s")
        return _report(reasons, {"stage": _stage(state), "stalled_s": round(state.stalled_s, 1)})

    def ready(self) -> Report:
        """Whether a record that comes now is taken, analysed and stored. Having no partition is no fault."""
        if self._parts is None:
            return _report(["starting"], {"stage": "starting"})
        edge, engine, pipeline = self._parts
        state, health = edge.state(), engine.health()
        reasons = list(self.live().reasons)
        if state.draining:
            reasons.append("draining")
        elif state.rebalancing:
            reasons.append("the group rebalances")
        elif state.untaken:
            reasons.append("a partition is not taken over yet")
        if state.broker_denies:
            reasons.append("the broker does not let us in")
        elif state.broker_away:
            reasons.append("the broker does not answer")
        if health.failed is not None:
            reasons.append("the engine has failed")
        elif not engine.warm:
            reasons.append("no engine process is warm")
        silent_s = self._clock() - pipeline.store_answered_s
        if silent_s > self._silence_s:
            reasons.append("the database has not answered lately")
        devices = [{"device": d.device, "state": d.state} for d in health.devices]
        facts: dict[str, Any] = {"stage": _stage(state), "partitions": list(state.taken), "devices": devices}
        facts |= {"checkpoint": self._checkpoint()}
        return _report(reasons, facts)


def _stage(state: EdgeState) -> str:
    return "draining" if state.draining else "serving"


def _report(reasons: list[str], facts: dict[str, Any]) -> Report:
    return Report(not reasons, tuple(reasons), facts)
