"""What a session stores of itself before it has read again all that an earlier life left to it."""

from __future__ import annotations

import pytest

from storage.sink import SessionState
from streams.messages import Chunk, Origin, SessionKey
from tests.sim.limits import LIMITS, TOPIC
from workers.results import Rows
from workers.session import Session

KEY = SessionKey("default", "call", "a-session")


def chunk(sequence: int, offset: int) -> Chunk:
    content = "audio/x-raw;format=S16LE;rate=16000;channels=1"
    origin = Origin(TOPIC, 0, offset)
    return Chunk(
        KEY, sequence, sequence * 4000, content, bytes(8000), None, f"{sequence}", "t", None, None, origin
    )


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
