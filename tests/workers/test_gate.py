"""The gate's judgement, record by record."""

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.gate import Gate, Verdict


def test_in_place_behind_and_not_ours() -> None:
    gate = Gate()
    assert gate.judge("t", 0, 5, 5) is Verdict.TAKE
    assert gate.judge("t", 0, 4, 5) is Verdict.DROP
    assert gate.judge("t", 0, 5, None) is Verdict.DROP


def test_a_jump_is_read_again_and_taken_only_when_it_stays() -> None:
    gate = Gate()
    assert gate.judge("t", 0, 9, 5) is Verdict.SEEK
    assert gate.judge("t", 0, 9, 5) is Verdict.SEEK
    assert gate.judge("t", 0, 9, 5) is Verdict.TAKE
    assert gate.judge("t", 0, 12, 10) is Verdict.SEEK
    assert gate.judge("t", 0, 10, 10) is Verdict.TAKE
    assert gate.judge("t", 0, 12, 10) is Verdict.SEEK, "what was sought before says nothing of a later jump"
    assert gate.judge("t", 1, 12, 10) is Verdict.SEEK


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.sets(st.integers(0, 39), max_size=20))
def test_whatever_is_lost_or_repeated_on_the_way_each_record_is_taken_once(
    seed: int, count: int, holes: set[int]
) -> None:
    """A reader that now and then jumps anywhere, over a log with holes: the taken records are the log's, in order."""
    import random

    log = [n for n in range(count) if n not in holes]
    chance, gate, position, reading = random.Random(seed), Gate(), 0, 0
    taken: list[int] = []
    for _ in range(4000):
        if chance.random() < 0.1:
            reading = chance.randrange(count + 1)  # a stale buffer, a seek of Faust's own
        offset = next((n for n in log if n >= reading), None)
        if offset is None:
            if not log or position > log[-1]:
                break
            reading = position  # the next fetch starts where the pipeline stands
            continue
        reading = offset + 1
        match gate.judge("t", 0, offset, position):
            case Verdict.TAKE:
                taken.append(offset)
                position = offset + 1
            case Verdict.SEEK:
                reading = position
    assert taken == log
