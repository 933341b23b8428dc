"""What a session stores of itself before it has read again all that an earlier life left to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from storage.sink import SessionState
from streams.messages import Chunk, Origin, SessionKey
from tests.sim.limits import LIMITS, TOPIC
from workers.results import Rows
from workers.session import MOST_REFUSED, Ready, Session

KEY = SessionKey("default", "call", "a-session")


GOOD, BAD = bytes(8000), bytes(7999)


def chunk(sequence: int, offset: int, payload: bytes = GOOD) -> Chunk:
    content = "audio/x-raw;format=S16LE;rate=16000;channels=1"
    origin = Origin(TOPIC, 0, offset)
    return Chunk(
        KEY, sequence, sequence * 4000, content, payload, None, f"{sequence}", "t", None, None, origin
    )


def heard(session: Session, chunks: Iterable[Chunk]) -> list[Ready]:
    """Give chunks to a session, a second apart, and collect after each, with nothing to be said of any window."""
    ready = []
    for one in chunks:
        session.bound = session.bound or one.payload == GOOD  # by a chunk that can be heard
        session.accept(one, 0.0, one.origin.offset * 1.0)
        ready.append(settled(session))
    return ready


def settled(session: Session) -> Ready:
    while session.due:
        for step in session.advance():
            step.finish(Rows())
    ready = session.collect()
    session.state(TOPIC, 0)
    return ready


def test_chunks_that_are_refused_for_hours_hold_nothing_back() -> None:
    """The audio before them is cut off in the end, so that neither memory nor what is read again grows with them."""
    session = Session(KEY, LIMITS.session, place=(TOPIC, 0))
    heard(session, [chunk(0, 0), *(chunk(n, n, BAD) for n in range(1, 10 * MOST_REFUSED))])
    assert session.resume_offset is None or session.resume_offset > 8 * MOST_REFUSED
    assert len(session.ledger.placed) <= MOST_REFUSED + 1


@pytest.mark.parametrize(("read", "resume"), [([2], 10), ([2, 10], 10), ([2, 10, 11, 12], 10)])
def test_chunks_that_are_still_to_be_read_again_stay_needed(read: list[int], resume: int) -> None:
    """Dialog events are committed while the reader is on its way; a crash after that must not lose a chunk."""
    state = SessionState(KEY, TOPIC, 0, 1, 16_000, None, "t", 8, 10, 12, False)
    session = Session(KEY, LIMITS.session, state, [], [], place=(TOPIC, 0))
    for offset in read:
        session.accept(chunk(offset - 2, offset), 0.0, offset * 0.25)
        while session.due:
            session.advance()
    session.add_dialog(Rows(), 100)
    assert session.collect()
    stored = session.state(TOPIC, 0)
    assert (stored.resume_sequence, stored.resume_offset, stored.seen_offset) == (8, resume, 12)


def test_what_an_earlier_life_may_have_placed_is_not_given_up_in_a_hurry() -> None:
    """Chunk 9 came before chunk 8, and both were heard; read again, 9 waits for 8 for as long as it takes."""
    state = SessionState(KEY, TOPIC, 0, 1, 16_000, None, "t", 8, 10, 12, False)
    session = Session(KEY, LIMITS.session, state, [], [], place=(TOPIC, 0))
    heard(session, [chunk(9, 10)])
    assert session.awaits_seen
    heard(session, [chunk(8, 11)])
    assert not session.awaits_seen
    heard(session, [chunk(11, 12)])  # the last one that was seen: what is missing before it was never heard
    assert session.orderer.held_items()
    assert not session.awaits_seen


def test_chunks_far_ahead_that_lead_nowhere_hold_nothing_back() -> None:
    """Each waits for the next one to follow it there, and none does: all of them are refused in their turn."""
    session = Session(KEY, LIMITS.session, place=(TOPIC, 0))
    far = [replace(chunk(n, n), start_sample=(2 - n % 2) * (1 << 40)) for n in range(1, 10 * MOST_REFUSED)]
    refused = [
        d.reason for one in heard(session, [chunk(0, 0), *far]) for r in one.rows for d in r.dead_letters
    ]
    assert refused == ["far_ahead"] * (len(far) - 1)  # the last one still waits
    assert session.resume_offset is None or session.resume_offset > 8 * MOST_REFUSED
    assert len(session.ledger.placed) <= MOST_REFUSED + 2
