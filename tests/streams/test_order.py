"""Whatever order items come in, each has one outcome, and what is skipped is said to be missing first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streams.order import Duplicate, Far, InOrder, Late, Missing, Orderer, Outcome

WAIT_S = 2.0


def orderer(held: int = 8, start: int = 0, gaps: list[tuple[int, int]] | None = None) -> Orderer[str]:
    return Orderer(next_sequence=start, max_wait_s=WAIT_S, max_held=held, gaps=gaps or [])


def test_in_order_items_pass_at_once() -> None:
    o = orderer()
    assert [o.push(n, f"{n}", 0.0) for n in range(3)] == [[InOrder("0")], [InOrder("1")], [InOrder("2")]]
    assert o.next_deadline_s is None


def test_a_late_neighbour_is_waited_for() -> None:
    o = orderer()
    assert o.push(1, "1", 5.0) == []
    assert (o.next_deadline_s, o.held_items()) == (7.0, ["1"])
    assert o.push(0, "0", 6.0) == [InOrder("0"), InOrder("1")]
    assert o.push(0, "again", 6.0) == [Duplicate("again")]


def test_the_wait_is_bounded_and_what_comes_after_it_is_late() -> None:
    o = orderer()
    o.push(0, "0", 0.0)
    assert o.push(3, "3", 1.0) == []
    assert o.push(3, "3 again", 1.5) == [Duplicate("3 again")]
    assert o.push(6, "6", 2.0) == []
    assert o.tick(2.9) == []
    assert o.tick(3.0) == [Missing(1, 2), InOrder("3")]
    assert o.next_deadline_s == 4.0
    assert o.tick(4.0) == [Missing(4, 5), InOrder("6")]
    assert o.push(2, "2", 4.1) == [Late("2")]
    assert o.push(3, "3", 4.1) == [Duplicate("3")]


def test_a_full_hold_gives_up_at_once() -> None:
    o = orderer(held=3)
    assert [o.push(n, f"{n}", 0.0) for n in (5, 2)] == [[], []]
    assert o.push(9, "9", 0.0) == [Missing(0, 1), InOrder("2")]
    assert o.held_items() == ["5", "9"]


def test_recorded_gaps_are_not_waited_for_and_come_again() -> None:
    o = orderer(start=4, gaps=[(6, 7)])
    assert o.push(4, "4", 0.0) == [InOrder("4")]
    assert o.push(6, "6", 0.0) == [Late("6")]
    assert o.push(8, "8", 0.0) == []
    assert o.push(5, "5", 0.0) == [InOrder("5"), Missing(6, 7), InOrder("8")]
    assert o.push(3, "3", 0.0) == [Duplicate("3")]
    assert o.push(7, "7", 0.0) == [Late("7")]


def test_what_is_remembered_of_gaps_is_bounded_and_a_restart_remembers_the_same() -> None:
    """Every second number missing: of old gaps only the newest are known, and all before them counts as one."""
    most = 3
    live: Orderer[str] = Orderer(0, WAIT_S, 8, max_past_gaps=most)
    for number in range(1, 60, 2):
        live.push(number, f"{number}", float(number))
        live.tick(number + WAIT_S)
        assert len(live.gaps) <= most + 1
        recorded = [(n, n) for n in range(0, number, 2)]
        known = recorded[-most - 1 :] if len(recorded) > most else recorded
        if len(recorded) > most:  # as `storage.queries` reads them
            known[0] = (0, known[0][1])
        again: Orderer[str] = Orderer(number + 1, WAIT_S, 8, known, max_past_gaps=most)
        all_of_them: Orderer[str] = Orderer(number + 1, WAIT_S, 8, recorded, max_past_gaps=most)
        assert live.gaps == again.gaps == all_of_them.gaps
        for old in range(number + 1):
            newer = sum(gap > old for gap, _ in recorded)
            late = old % 2 == 0 or newer > most
            assert [type(one) for one in live.put(old, "x", 99.0)] == [Late if late else Duplicate], old


def test_gaps_that_are_still_to_be_crossed_are_all_kept() -> None:
    ahead = [(n, n) for n in range(10, 40, 2)]
    o: Orderer[str] = Orderer(10, WAIT_S, 8, ahead, max_past_gaps=2)
    assert o.gaps == ahead
    out = [outcome for n in range(11, 41, 2) for outcome in o.push(n, f"{n}", 0.0)]
    assert [m for m in out if isinstance(m, Missing)] == [Missing(n, n) for n in range(10, 40, 2)]
    assert o.gaps == [(0, 34), (36, 36), (38, 38)]


def test_a_hold_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_held"):
        orderer(held=0)


def test_turns_come_one_at_a_time_and_what_has_none_yet_is_held() -> None:
    o = orderer(held=3)
    for n in (4, 2, 3):
        assert o.put(n, f"{n}", 0.0) == []
    assert o.due
    assert o.held_items() == ["2", "3", "4"]
    assert o.put(1, "1", 0.1) == [Late("1")]  # given up, though it has not been said yet
    assert [o.next_turn(), o.next_turn()] == [Missing(0, 1), InOrder("2")]
    assert (o.held_items(), o.next_sequence) == (["3", "4"], 3)
    assert o.expire(100.0) == []  # nothing waits any longer
    assert [o.next_turn(), o.next_turn(), o.next_turn(), o.due] == [InOrder("3"), InOrder("4"), None, False]


def test_the_bytes_that_wait_are_bounded() -> None:
    o: Orderer[str] = Orderer(0, WAIT_S, 99, max_held_bytes=100)
    assert o.put(2, "2", 0.0, size_bytes=60) == []
    assert not o.due
    assert o.put(5, "5", 0.0, size_bytes=50) == []
    assert [o.next_turn(), o.next_turn(), o.next_turn()] == [Missing(0, 1), InOrder("2"), None]
    assert o.held_bytes == 50


def far() -> Orderer[str]:
    o: Orderer[str] = Orderer(10, WAIT_S, 8, max_jump=100, jump_wait_s=30.0)
    assert o.push(10, "10", 0.0) == [InOrder("10")]
    assert o.push(5000, "far", 1.0) == []
    assert (o.held_items(), o.furthest) == (["far"], 10)
    return o


def test_a_sequence_that_nothing_follows_moves_nothing() -> None:
    o = far()
    assert o.push(11, "11", 1.1) == [InOrder("11")]
    assert o.tick(30.9) == []
    assert o.tick(31.0) == [Far("far")]
    assert o.push(12, "12", 32.0) == [InOrder("12")]


def test_another_leap_elsewhere_does_not_confirm_it() -> None:
    assert far().push(9000, "9000", 1.1) == [Far("far")]
    assert far().push(5000, "again", 1.1) == [Far("far")]


@pytest.mark.parametrize("second", [5001, 4999, 5100])
def test_a_leap_that_another_follows_is_a_long_gap(second: int) -> None:
    o = far()
    assert o.push(second, "second", 1.1) == []
    assert o.push(11, "11", 1.2) == [
        InOrder("11")
    ]  # the old place is still waited for, as long as for any other
    out = o.tick(3.1)
    assert out[0] == Missing(12, min(5000, second) - 1)
    assert {x.item for x in out if isinstance(x, InOrder)} <= {"far", "second"}
    assert o.push(11, "again", 3.2) == [Duplicate("again")]


def test_a_known_gap_is_no_leap() -> None:
    o: Orderer[str] = Orderer(10, WAIT_S, 8, gaps=[(10, 4999)], max_jump=100)
    assert o.push(5000, "5000", 0.0) == [Missing(10, 4999), InOrder("5000")]


def test_when_there_are_no_more_turns_all_comes_out() -> None:
    o = far()
    o.put(12, "12", 1.2)
    assert o.drain() == ["12", "far"]
    assert not o.held_items()


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.permutations(range(12)))
def test_any_order_within_the_hold_loses_nothing(order: list[int]) -> None:
    o: Orderer[int] = Orderer(next_sequence=0, max_wait_s=WAIT_S, max_held=13)
    out = [outcome for n in order for outcome in o.push(n, n, 0.0)]
    assert out == [InOrder(n) for n in range(12)]


class OrdererMachine(RuleBasedStateMachine):
    """Random pushes and ticks against the promises of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.pushed: list[tuple[int, int]] = []
        self.out: list[Outcome[tuple[int, int]]] = []
        self.orderer: Orderer[tuple[int, int]] = Orderer(0, WAIT_S, 4)

    @initialize(start=st.integers(0, 5), gap=st.none() | st.tuples(st.integers(5, 9), st.integers(0, 3)))
    def begin(self, start: int, gap: tuple[int, int] | None) -> None:
        gaps = [(gap[0], gap[0] + gap[1])] if gap else []
        self.orderer = Orderer(start, WAIT_S, 4, gaps, max_jump=12, jump_wait_s=2 * WAIT_S)

    @rule(sequence=st.integers(0, 25))
    def push(self, sequence: int) -> None:
        item = (sequence, len(self.pushed))
        self.pushed.append(item)
        self.out += self.orderer.push(sequence, item, self.now_s)

    @rule(passed_s=st.floats(0, 3))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        self.out += self.orderer.tick(self.now_s)

    @invariant()
    def each_item_has_one_outcome(self) -> None:
        settled = [o.item for o in self.out if not isinstance(o, Missing)]
        assert sorted(settled + self.orderer.held_items()) == sorted(self.pushed)

    @invariant()
    def sequences_rise_without_a_silent_hole(self) -> None:
        at: int | None = None
        for o in self.out:
            if isinstance(o, Missing):
                assert at is None or o.first == at
                assert o.last >= o.first
                at = o.last + 1
            elif isinstance(o, InOrder):
                assert at is None or o.item[0] == at
                at = o.item[0] + 1

    @invariant()
    def the_hold_is_bounded_in_size_and_time(self) -> None:
        assert len(self.orderer.held_items()) <= 4  # three, and one apart
        deadline_s = self.orderer.next_deadline_s
        assert deadline_s is None or deadline_s <= self.now_s + WAIT_S


TestOrderer = OrdererMachine.TestCase
TestOrderer.settings = settings(derandomize=True, max_examples=60, stateful_step_count=30, deadline=None)
