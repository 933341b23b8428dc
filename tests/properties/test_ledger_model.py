"""How far a partition may be forgotten, against a model that keeps every chunk for ever and asks each whether it is
still needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from workers.ledger import NEVER_SETTLED, OUT_OF_TURN, Past, SessionLedger, next_offset

SESSIONS = 3


@dataclass
class Chunk:
    """One chunk in the model: where its audio ends, None while it waits for its turn."""

    offset: int
    sequence: int
    end_sample: int | None = None
    released: bool = False


@dataclass
class Session:
    """All that ever came of one session."""

    ledger: SessionLedger
    chunks: list[Chunk]
    next_sequence: int = 0
    end_sample: int = 0
    seen_offset: int = -1
    needed: int = 0

    def held(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.end_sample is None]

    def still_needed(self) -> list[Chunk]:
        """Those whose turn has not come, or whose audio has not been let go."""
        return [chunk for chunk in self.chunks if not chunk.released]


class LedgerMachine(RuleBasedStateMachine):
    """Chunks of three sessions in one partition come in any order, are placed in order and settled piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = [Session(SessionLedger(), []) for _ in range(SESSIONS)]
        self.position = 0
        self.stored = 0

    @rule(number=st.integers(0, SESSIONS - 1), ahead=st.integers(0, 3))
    def arrive(self, number: int, ahead: int) -> None:
        session = self.sessions[number]
        taken = {chunk.sequence for chunk in session.chunks}
        sequence = session.next_sequence + ahead
        session.seen_offset, self.position = self.position, self.position + 1
        if sequence not in taken:
            session.chunks.append(Chunk(session.seen_offset, sequence))

    @rule(
        number=st.integers(0, SESSIONS - 1),
        length=st.sampled_from([0, 100, 1600, 5000]),
        give_up=st.booleans(),
    )
    def place(self, number: int, length: int, give_up: bool) -> None:
        """The next chunk's turn comes; with `give_up` the numbers before it are missing. Length 0: it was refused."""
        session = self.sessions[number]
        held = sorted(session.held(), key=lambda chunk: chunk.sequence)
        if not held or (held[0].sequence != session.next_sequence and not give_up):
            return
        chunk = held[0]
        session.end_sample += length
        chunk.end_sample = session.end_sample
        session.next_sequence = chunk.sequence + 1
        session.ledger.place(chunk.offset, chunk.sequence, chunk.end_sample)

    @rule(number=st.integers(0, SESSIONS - 1), further=st.sampled_from([0, 100, 1700, 4000]))
    def settle(self, number: int, further: int) -> None:
        """Every track moves on."""
        session = self.sessions[number]
        session.needed = min(session.needed + further, session.end_sample)
        session.ledger.release(session.needed)
        for chunk in session.chunks:
            chunk.released |= chunk.end_sample is not None and chunk.end_sample <= session.needed

    @rule(number=st.integers(0, SESSIONS - 1))
    def decide_later(self, number: int) -> None:
        """A chunk whose place is not decided yet is noted as needed, and taken back when it is."""
        session = self.sessions[number]
        before = list(session.ledger.placed)
        session.ledger.place(self.position, session.next_sequence, NEVER_SETTLED)
        assert session.ledger.resume(0, -1, [])[1] == min([self.position, *(p.offset for p in before)])
        session.ledger.take_back()
        assert list(session.ledger.placed) == before

    @invariant()
    def a_session_resumes_at_the_lowest_that_is_needed(self) -> None:
        for session in self.sessions:
            needed = session.still_needed()
            placed = [chunk.sequence for chunk in needed if chunk.end_sample is not None]
            offsets = [chunk.offset for chunk in needed]
            held = [chunk.offset for chunk in session.held()]
            sequence, offset = session.ledger.resume(session.next_sequence, session.seen_offset, held)
            assert sequence == min(placed, default=session.next_sequence)
            assert offset == min(offsets, default=session.seen_offset + 1)

    @invariant()
    def nothing_needed_lies_below_the_stored_offset_and_it_never_goes_back(self) -> None:
        needed = [chunk.offset for session in self.sessions for chunk in session.still_needed()]
        resume = [
            session.ledger.resume(
                session.next_sequence, session.seen_offset, [chunk.offset for chunk in session.held()]
            )[1]
            for session in self.sessions
            if session.still_needed()
        ]
        stored = next_offset(self.position, resume)
        assert stored == min(needed, default=self.position)
        assert stored >= self.stored
        self.stored = stored


LedgerMachine.TestCase.settings = settings(
    derandomize=True, max_examples=120, stateful_step_count=40, deadline=None
)
TestLedgerMachine = LedgerMachine.TestCase


@settings(derandomize=True, max_examples=300, deadline=None)
@given(
    resume_sequence=st.integers(0, 5),
    resume_offset=st.integers(0, 8),
    seen_offset=st.integers(-1, 10),
    ended=st.booleans(),
    fates=st.dictionaries(st.integers(0, 10), st.sampled_from([*sorted(OUT_OF_TURN), "decode", "overlap"])),
    offset=st.integers(0, 12),
    sequence=st.integers(0, 8),
)
def test_what_an_earlier_life_has_settled(
    resume_sequence: int,
    resume_offset: int,
    seen_offset: int,
    ended: bool,
    fates: dict[int, str],
    offset: int,
    sequence: int,
) -> None:
    """New records are never settled; of those seen, all but the ones a live session must read again in their turn."""
    past = Past(resume_sequence, resume_offset, seen_offset, ended, fates)
    new = offset > seen_offset
    again = not ended and offset >= resume_offset and sequence >= resume_sequence
    decided_at_once = fates.get(offset) in (
        "duplicate",
        "late",
        "sequence_reset",
        "sequence_jump",
        "after_end",
    )
    assert past.settled(offset, sequence) == (not new and (not again or decided_at_once))
