"""A stand-in for the pipeline where the Faust edge itself is under test: it keeps positions in memory and
records its calls.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from streams.messages import Record
from workers.watchdog import Pulse


@dataclass
class Offsets:
    """What Postgres holds in a real installation: the next offset of each partition, and its epoch."""

    next_offset: dict[tuple[str, int], int] = field(default_factory=dict)
    epoch: dict[tuple[str, int], int] = field(default_factory=dict)
    committed: dict[tuple[str, int], list[Record]] = field(default_factory=dict)


class Recorder:
    """Takes records in order and "commits" each at once, unless `commits` is off or `gate` holds it back."""

    def __init__(self, offsets: Offsets, *, commits: bool = True) -> None:
        self.offsets = offsets
        self.commits = commits
        self.records: list[Record] = []
        self.takes: list[tuple[str, int, int]] = []  # topic, partition, offset to start from
        self.clusters: set[str] = set()
        self.ranges: list[tuple[int, int]] = []
        self.ends: dict[tuple[str, int], int] = {}
        self.drained_s: float | None = None
        self.ticks = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.raises: BaseException | None = None
        self.misplaced: list[str] = []
        self._epochs: dict[tuple[str, int], int] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._changed = asyncio.Condition()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def assigned(self, topic: str, partition: int, cluster_id: str, earliest: int, latest: int) -> int:
        tp = (topic, partition)
        self.clusters.add(cluster_id)
        self.ranges.append((earliest, latest))
        await asyncio.sleep(0)
        epoch = self.offsets.epoch.get(tp, 0) + 1
        self.offsets.epoch[tp] = self._epochs[tp] = epoch
        offset = max(earliest, min(self.offsets.next_offset.get(tp, 0), latest))
        self._positions[tp] = offset
        self.takes.append((topic, partition, offset))
        await self._tell()
        return offset

    async def revoked(self, topic: str, partition: int) -> None:
        self._positions.pop((topic, partition), None)
        self._epochs.pop((topic, partition), None)
        await self._tell()

    def position(self, topic: str, partition: int) -> int | None:
        return self._positions.get((topic, partition))

    @property
    def partitions(self) -> set[int]:
        return {partition for _, partition in self._positions}

    async def handle(self, record: Record) -> None:
        tp = (record.topic, record.partition)
        await self.gate.wait()
        if self.raises is not None:
            raise self.raises
        expected = self._positions.get(tp)
        if expected is None:
            return  # revoked while it waited
        if record.offset != expected:
            self.misplaced.append("%s: %d instead of %d" % (tp, record.offset, expected))
        self._positions[tp] = record.offset + 1
        self.records.append(record)
        if self.commits and self.offsets.epoch[tp] == self._epochs[tp]:
            self.offsets.next_offset[tp] = record.offset + 1
            self.offsets.committed.setdefault(tp, []).append(record)
        await self._tell()

    def at_end(self, topic: str, partition: int, highwater: int) -> None:
        self.ends[topic, partition] = highwater

    async def tick(self) -> None:
        self.ticks += 1
        await self._tell()

    async def drain(self, grace_s: float) -> bool:
        self.drained_s = grace_s
        return True

    def pulse(self) -> Pulse:
        return Pulse(len(self.records), () if self.gate.is_set() else ("the gate is shut",))

    async def until(self, state: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Wait until `state` holds; it is looked at after every call and every tick."""
        async with asyncio.timeout(limit_s), self._changed:
            await self._changed.wait_for(state)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
