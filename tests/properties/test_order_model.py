"""The reorder buffer against a model that keeps single numbers in plain sets and looks at all of them each time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from streams.order import Duplicate, InOrder, Late, Missing, Orderer, Outcome

WAIT_S, MOST_HELD, MOST_BYTES = 2.0, 4, 100
Item = tuple[int, int]
Seen = tuple[str, object]


class NaiveOrder:
    """One session's sequence numbers: those given up, and what is held in order of arrival."""

    def __init__(self, start: int, given_up: set[int]) -> None:
        self.next = start
        self.given_up = given_up
        self.held: dict[int, tuple[Item, float, int]] = {}

    def awaited(self) -> int:
        """The first number that has neither come nor been given up."""
        number = self.next
        while number in self.held or number in self.given_up:
            number += 1
        return number

    def waiting(self) -> dict[int, tuple[Item, float, int]]:
        return {number: held for number, held in self.held.items() if number > self.awaited()}

    def give_up(self) -> None:
        self.given_up |= set(range(self.awaited(), min(self.waiting())))

    def push(self, number: int, item: Item, now_s: float, size_bytes: int) -> list[Seen]:
        if number in self.held or (number < self.next and number not in self.given_up):
            return [("duplicate", item)]
        if number in self.given_up:
            return [("late", item)]
        self.held[number] = (item, now_s, size_bytes)
        while (waiting := self.waiting()) and (
            len(waiting) >= MOST_HELD or sum(size for _, _, size in waiting.values()) > MOST_BYTES
        ):
            self.give_up()
        return self.turns()

    def tick(self, now_s: float) -> list[Seen]:
        while waiting := self.waiting():
            first_s = next(iter(waiting.values()))[1]
            if now_s < first_s + WAIT_S:
                break
            self.give_up()
        return self.turns()

    def turns(self) -> list[Seen]:
        out: list[Seen] = []
        while self.held and (self.next in self.held or self.next in self.given_up):
            if self.next in self.held:
                out.append(("in order", self.held.pop(self.next)[0]))
            else:
                out.append(("missing", self.next))
            self.next += 1
        return out


def seen(outcomes: list[Outcome[Item]]) -> list[Seen]:
    """Outcomes with each missing number on its own."""
    found: list[Seen] = []
    for outcome in outcomes:
        match outcome:
            case Missing(first, last):
                found += [("missing", number) for number in range(first, last + 1)]
            case InOrder(item):
                found.append(("in order", item))
            case Duplicate(item):
                found.append(("duplicate", item))
            case Late(item):
                found.append(("late", item))
            case _:
                raise AssertionError(outcome)
    return found


class OrderMachine(RuleBasedStateMachine):
    """Pushes and pauses, told to both; gaps are known from an earlier life."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.pushed, self.settled = 0.0, 0, 0
        self.model = NaiveOrder(0, set())
        self.orderer: Orderer[Item] = Orderer(0, WAIT_S, MOST_HELD)

    @initialize(
        start=st.integers(0, 6),
        gaps=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1)), min_size=1, max_size=3),
    )
    def begin(self, start: int, gaps: list[tuple[int, int]]) -> None:
        known: set[int] = set()
        ranges = []
        for first, more in gaps:
            first += start
            numbers = set(range(first, first + more + 1))
            if not known & numbers:  # an earlier life records no number twice
                known |= numbers
                ranges.append((first, first + more))
        self.model = NaiveOrder(start, known)
        self.orderer = Orderer(start, WAIT_S, MOST_HELD, ranges, max_held_bytes=MOST_BYTES)

    @rule(ahead=st.integers(-4, 6), size_bytes=st.sampled_from([1, 1, 40, 70]))
    def push(self, ahead: int, size_bytes: int) -> None:
        number = max(0, self.model.next + ahead)
        item = (number, self.pushed)
        self.pushed += 1
        told = self.orderer.put(number, item, self.now_s, size_bytes)
        while (turn := self.orderer.next_turn()) is not None:
            told.append(turn)
        self.compare(told, self.model.push(number, item, self.now_s, size_bytes))

    @rule(passed_s=st.sampled_from([0.1, 1.9, 2.0, 2.0]))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s
        self.compare(self.orderer.tick(self.now_s), self.model.tick(self.now_s))

    def compare(self, told: list[Outcome[Item]], expected: list[Seen]) -> None:
        assert seen(told) == expected
        self.settled += sum(kind != "missing" for kind, _ in expected)

    @invariant()
    def each_item_has_one_outcome_or_is_held_within_bounds(self) -> None:
        waiting = self.model.waiting()
        assert self.settled + len(self.orderer.held_items()) == self.pushed
        assert self.orderer.held_items() == [item for _, (item, _, _) in sorted(self.model.held.items())]
        assert len(waiting) < MOST_HELD
        assert self.orderer.held_bytes <= MOST_BYTES
        deadline_s = self.orderer.next_deadline_s
        assert deadline_s == min((arrived_s + WAIT_S for _, arrived_s, _ in waiting.values()), default=None)
        assert deadline_s is None or deadline_s <= self.now_s + WAIT_S


OrderMachine.TestCase.settings = settings(
    derandomize=True, max_examples=120, stateful_step_count=30, deadline=None
)
TestOrderMachine = OrderMachine.TestCase


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    order=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=10, max_size=30),
    lost=st.sets(st.integers(0, 9), max_size=3),
)
def test_displaced_and_repeated_records_come_out_once_and_in_order(
    order: list[tuple[int, int]], lost: set[int]
) -> None:
    """Each number moved by at most three places, some lost, some repeated: the hold is never exceeded."""
    numbers = [n for n, _ in sorted(enumerate(order), key=lambda entry: entry[0] + entry[1][1])]
    orderer: Orderer[Item] = Orderer(0, WAIT_S, 32)
    out: list[Seen] = []
    for count, number in enumerate(numbers):
        if number not in lost:
            out += seen(orderer.push(number, (number, count), 0.0))
            repeats = order[number][0] % 2
            out += [
                x for again in range(repeats) for x in seen(orderer.push(number, (number, -again - 1), 0.0))
            ]
    out += seen(orderer.tick(WAIT_S))
    kept = [n for n in range(len(order)) if n not in lost]
    assert [item[0] for kind, item in out if kind == "in order" and isinstance(item, tuple)] == kept
    assert {number for kind, number in out if kind == "missing"} == {n for n in lost if n < max(kept)}
    assert not orderer.held_items()


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    came=st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True),
    gap=st.tuples(st.integers(0, 12), st.integers(0, 2)),
)
def test_what_is_missing_around_a_recorded_gap_is_late_and_nothing_else(
    came: list[int], gap: tuple[int, int]
) -> None:
    """After the wait: a number that came is a duplicate when it comes again, any other below it is too late."""
    first, last = gap[0], sum(gap)
    orderer: Orderer[str] = Orderer(0, WAIT_S, 32, gaps=[(first, last)])
    came = [number for number in came if not first <= number <= last]
    for number in came:
        orderer.push(number, "first", 0.0)
    orderer.tick(WAIT_S)
    for number in range(max(came, default=0)):
        again = Duplicate("again") if number in came else Late("again")
        assert orderer.push(number, "again", 3.0) == [again]


def test_a_gap_given_up_around_a_recorded_one_is_late_as_a_whole() -> None:
    orderer: Orderer[str] = Orderer(5, WAIT_S, 8, gaps=[(6, 7)])
    assert orderer.push(9, "9", 0.0) == []
    told = orderer.tick(WAIT_S)
    assert told[-1] == InOrder("9")
    assert [orderer.push(number, "x", 3.0) for number in (5, 6, 7, 8)] == [[Late("x")]] * 4
