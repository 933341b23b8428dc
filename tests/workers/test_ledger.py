"""What may be forgotten: nothing that an unsettled track, a held item or another session still needs."""

from __future__ import annotations

import random

from workers.ledger import NEVER_SETTLED, ResumeOffsets, SessionLedger, next_offset


def test_released_up_to_the_needed_sample() -> None:
    ledger = SessionLedger()
    for sequence in range(4):
        ledger.place(offset=10 + sequence, sequence=sequence, end_sample=1600 * (sequence + 1))
    ledger.release(3200)
    assert ledger.resume(4, 13, []) == (2, 12)


def test_an_earlier_offset_of_a_later_sequence_counts() -> None:
    ledger = SessionLedger()
    ledger.place(offset=21, sequence=0, end_sample=1600)
    ledger.place(offset=20, sequence=1, end_sample=3200)  # came first, waited for its turn
    assert ledger.resume(2, 21, []) == (0, 20)
    assert ledger.resume(2, 21, [18]) == (0, 18)


def test_with_nothing_needed_the_next_message_is_the_first() -> None:
    assert SessionLedger().resume(7, 99, []) == (7, 100)
    assert SessionLedger().resume(7, 99, [98]) == (7, 98)


def test_only_the_end_of_a_session_releases_its_end_message() -> None:
    ledger = SessionLedger()
    ledger.place(offset=5, sequence=3, end_sample=NEVER_SETTLED)
    ledger.release(1 << 60)
    assert ledger.resume(4, 5, []) == (3, 5)


def test_a_partition_waits_for_its_slowest_session() -> None:
    assert next_offset(100, []) == 100
    assert next_offset(100, [40, 70]) == 40


def test_the_lowest_offset_is_the_same_as_that_of_all_sessions() -> None:
    rng = random.Random(1)
    needed, offsets = ResumeOffsets(), dict[str, int]()
    for position in range(5000):
        session = f"s{rng.randrange(40)}"
        if rng.random() < 0.2:
            needed.note(session, None)
            offsets.pop(session, None)
        else:
            offsets[session] = rng.randrange(position + 1)
            needed.note(session, offsets[session])
        if rng.random() < 0.5:
            assert needed.next_offset(position) == next_offset(position, offsets.values())
    assert len(needed._lowest) <= 2 * 40 + 64  # one session that pins the offset keeps no others in memory
