"""Whatever order items come in, each has one outcome, and what is skipped is said to be missing first."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streams.order import Duplicate, InOrder, Late, Missing, Orderer, Outcome

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


def test_a_hold_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_held"):
        orderer(held=0)


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
        self.orderer: Orderer[tuple[int, int]] = Orderer(next_sequence=0, max_wait_s=WAIT_S, max_held=4)

    @initialize(start=st.integers(0, 5), gap=st.none() | st.tuples(st.integers(5, 9), st.integers(0, 3)))
    def begin(self, start: int, gap: tuple[int, int] | None) -> None:
        gaps = [(gap[0], gap[0] + gap[1])] if gap else []
        self.orderer = Orderer(next_sequence=start, max_wait_s=WAIT_S, max_held=4, gaps=gaps)

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
        assert len(self.orderer.held_items()) < 4
        deadline_s = self.orderer.next_deadline_s
        assert deadline_s is None or deadline_s <= self.now_s + WAIT_S


TestOrderer = OrdererMachine.TestCase
TestOrderer.settings = settings(derandomize=True, max_examples=60, stateful_step_count=30, deadline=None)
