"""Is a record that the consumer hands over in its place? Pure: offsets in, a verdict out; knows neither Kafka
nor Faust.

Invariant: as long as a reader keeps coming back to the position, every record of the log is taken once and in
order, whatever the reader repeats, drops or reads too early; holes in the log (transaction marks, compaction)
are passed.
"""

from dataclasses import dataclass, field
from enum import StrEnum

SEEKS_BEFORE_A_HOLE = 2  # one could be answered by the same record fetched twice before the seek


class Verdict(StrEnum):
    """What to do with a record."""

    TAKE = "take"
    DROP = "drop"
    SEEK = "seek"


@dataclass
class Gate:
    """Decides, record by record, whether it is in place. Pure."""

    _sought: dict[tuple[str, int], tuple[int, int, int]] = field(default_factory=dict)

    def judge(self, topic: str, partition: int, offset: int, position: int | None) -> Verdict:
        """Compare a record's offset with the next one expected; `position` is None for a partition that is not ours."""
        if position is None or offset < position:
            return Verdict.DROP
        if offset == position:
            self._sought.pop((topic, partition), None)
            return Verdict.TAKE
        at, to, times = self._sought.get((topic, partition), (position, offset, 0))
        times = times + 1 if (at, to) == (position, offset) else 1
        self._sought[topic, partition] = (position, offset, times)
        return Verdict.TAKE if times > SEEKS_BEFORE_A_HOLE else Verdict.SEEK
