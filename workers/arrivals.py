"""The messages of one session as Kafka has them: each gets its turn, in order, or is told why it gets none.

In: messages with their sequences and the time stamps of their records. Out: turns (`orderer`), and a `NoTurn` for each
duplicate, late or senseless one. Does not know audio, rows or the store; its only clock is the log's own. Invariant:
reading the same log again, at any pace, decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from streams.errors import Reject
from streams.messages import Chunk, SessionEnd
from streams.order import Duplicate, Far, Late, Orderer, Outcome

REMEMBERED_IDS = 512  # digests of chunk ids kept to tell a redelivery from a producer that started again


@dataclass(frozen=True, slots=True)
class NoTurn:
    """A message that will have no turn; without a `reject` it is a duplicate."""

    message: Chunk | SessionEnd
    reject: Reject | None


class Arrivals:
    """Takes messages as they come; `orderer` hands them on in their turn."""

    def __init__(self, orderer: Orderer[Chunk | SessionEnd], *, unnamed: bool) -> None:
        """`unnamed`: the producer gives its sessions no id, so one that starts again shows by its chunks' ids."""
        self.orderer = orderer
        self._unnamed = unnamed
        self.log_s = 0.0  # time of the last record
        self._stamp_s: float | None = None
        self._stepped_back_s = 0.0
        self._ids: dict[int, bytes] = {}

    def stamp(self, stamp_s: float) -> None:
        """Note a record's time stamp on a clock that never goes back, as a producer's may: it runs on from there."""
        if self._stamp_s is not None:
            self._stepped_back_s += max(0.0, self._stamp_s - stamp_s)
        self._stamp_s = stamp_s
        self.log_s = stamp_s + self._stepped_back_s

    def take(self, message: Chunk | SessionEnd) -> list[NoTurn]:
        """Take one message; return those that will have no turn."""
        sequence = sequence_of(message)
        size_bytes = len(message.payload) if isinstance(message, Chunk) else 0
        first_id = self._ids.get(sequence)
        self._remember(sequence, message.ce_id)
        without: list[NoTurn] = []
        for outcome in self.orderer.put(sequence, message, self.log_s, size_bytes):
            match outcome:
                case Duplicate(item):
                    without.append(self._repeated(item, first_id))
                case Late(item):
                    without.append(NoTurn(item, Reject("late", "the gap it belongs to is already recorded")))
                case _:
                    without += self._far([outcome])
        return without

    def expire(self, until_s: float) -> list[NoTurn]:
        """Give up what has been waited for long enough."""
        return self._far(self.orderer.expire(until_s))

    def hurry(self) -> list[NoTurn]:
        """Wait for nothing any longer."""
        return self._far(self.orderer.give_up_all())

    def _far(self, outcomes: Sequence[Outcome[Chunk | SessionEnd]]) -> list[NoTurn]:
        without = []
        for outcome in outcomes:
            if isinstance(outcome, Far):
                sequence = sequence_of(outcome.item)
                self._ids.pop(sequence, None)
                reject = Reject("sequence_jump", f"{sequence}, and no chunk followed it there")
                without.append(NoTurn(outcome.item, reject))
        return without

    def _repeated(self, message: Chunk | SessionEnd, first_id: bytes | None) -> NoTurn:
        """The same sequence again: a duplicate, unless its id shows that the producer began anew."""
        began_anew = first_id != _digest(message.ce_id) if first_id is not None else self._unnamed
        if not began_anew:
            return NoTurn(message, None)
        return NoTurn(message, Reject("sequence_reset", f"sequence {sequence_of(message)} had another id"))

    def _remember(self, sequence: int, ce_id: str) -> None:
        self._ids.setdefault(sequence, _digest(ce_id))
        if len(self._ids) > REMEMBERED_IDS:
            del self._ids[next(iter(self._ids))]


def sequence_of(message: Chunk | SessionEnd) -> int:
    """The message's sequence: `Session.accept` gives one to those without."""
    return -1 if message.sequence is None else message.sequence


def _digest(ce_id: str) -> bytes:
    """Tells ids apart at a size that does not depend on them."""
    return blake2b(ce_id.encode(), digest_size=8).digest()
