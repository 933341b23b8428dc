"""What a worker keeps in memory of one assigned partition, for as long as one epoch lasts. Plain state, no behaviour:
`workers.pipeline` reads and writes it, and drops it whole at revocation.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from streams.messages import DeadLetter, SessionKey
from workers.session import Session


@dataclass(eq=False, slots=True)
class Partition:
    """What this process knows of one assigned partition in one epoch."""

    topic: str
    number: int
    epoch: int
    position: int  # next offset expected
    highwater: int = 0
    end_before: int = 1 << 62  # highwater of the last tick; a busy partition's newest is never reached
    blocked: bool = False  # a record is waiting for room or for a dependency
    ticked_s: float = 0.0  # when the last tick was
    interval_s: float = 0.0  # from the tick before it
    clear: bool = False  # at the last tick it had been read up to `end_before`
    clear_s: float = 0.0  # sum of the intervals whose end had been read one tick later
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    streams: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: list[DeadLetter] = field(default_factory=list)  # of records that belong to no session
    stored_offset: int = -1
    stalled: bool = False  # the store does not answer
    taken: int = 0  # records since the last commit
    inflight: int = 0  # windows at the engine
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    quiet: asyncio.Event = field(default_factory=asyncio.Event)  # the committer has nothing to do
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
