"""When a process counts as lost: start, silence, progress, and a judge that was away."""

from __future__ import annotations

from workers.vigil import OVERTAKING, Patience, Vigil

SECOND = 16_000  # samples
PATIENCE = Patience(
    silence_limit_s=5.0,
    start_deadline_s=100.0,
    deadline_s=10.0,
    deadline_per_audio_s=0.5,
    beat_s=1.0,
    late_s=2.0,
)


class Watched:
    """A vigil on a process that beats its heart, judged every second."""

    def __init__(self) -> None:
        self.now_s = 0
        self.vigil = Vigil(PATIENCE, 0.0)

    def goes_on(self, until_s: int, *, heard: bool = True) -> str | None:
        """The first verdict until then."""
        while self.now_s < until_s:
            self.now_s += 1
            if heard:
                self.vigil.heard(self.now_s)
            if verdict := self.vigil.judge(self.now_s):
                return verdict
        return None


def ready() -> Watched:
    watched = Watched()
    watched.vigil.ready()
    return watched


def test_a_start_may_take_its_time_and_be_silent() -> None:
    watched = Watched()
    assert watched.goes_on(100, heard=False) is None
    assert watched.goes_on(101) == "missed its deadline"


def test_silence_is_a_loss_and_idleness_is_not() -> None:
    watched = ready()
    assert watched.goes_on(10_000) is None
    assert watched.goes_on(10_005, heard=False) is None
    assert watched.goes_on(10_006, heard=False) == "gave no sign of life"


def test_the_deadline_counts_from_when_it_got_busy_and_grows_with_the_audio_in_flight() -> None:
    watched = ready()
    watched.goes_on(50)
    watched.vigil.took("a", 4 * SECOND, 52.0, 50)
    watched.goes_on(55)
    watched.vigil.took("b", 2 * SECOND, 57.0, 55)  # more work is no progress
    assert watched.goes_on(63) is None
    assert watched.goes_on(64) == "missed its deadline"
    assert watched.now_s == 64


def test_every_answer_is_progress_and_the_last_one_ends_the_watch() -> None:
    watched = ready()
    watched.vigil.took("long", SECOND, 2.0, 0)
    for start_s in range(0, 36, 9):  # it stays in flight for longer than the deadline
        watched.vigil.took("short", SECOND, start_s + 2.0, start_s)
        assert watched.goes_on(start_s + 9) is None
        watched.vigil.answered("short", start_s + 9)
    watched.vigil.answered("long", 36)
    assert watched.goes_on(1000) is None
    watched.vigil.took("a", 0, 1002.0, 1000)
    watched.vigil.took("b", 0, 1002.0, 1000)
    watched.vigil.answered("a", 1005)
    assert watched.goes_on(1015) is None
    assert watched.goes_on(1016) == "missed its deadline"


def served_beside(waiting_due_s: float, others_due_in_s: float) -> tuple[int, str | None]:
    """When, and why, a process is lost that answers one window each second but never one that it took at 0."""
    watched = ready()
    watched.vigil.took("waiting", 0, waiting_due_s, 0)
    while watched.now_s < 1000:
        begun_s = watched.now_s
        watched.vigil.took("other", 0, begun_s + others_due_in_s, begun_s)
        if verdict := watched.goes_on(begun_s + 1):
            return begun_s + 1, verdict
        watched.vigil.answered("other", begun_s + 1)
    return watched.now_s, None


def test_answers_to_others_excuse_a_process_for_some_time_only() -> None:
    assert served_beside(2.0, 2.0) == (OVERTAKING * 10 + 1, "left a window behind")
    # those that are due before it go before it; from 60 s on none of them is
    assert served_beside(62.0, 2.0) == (60 + OVERTAKING * 10 + 1, "left a window behind")


def test_a_window_that_many_go_before_is_not_left_behind() -> None:
    assert served_beside(2000.0, 2.0) == (1000, None)


def test_a_window_that_shared_the_engine_is_given_the_time_of_all_that_were_in_flight() -> None:
    """Eight begin together and are answered together, the one that is due first a second after the others."""
    watched = ready()
    for due_s in range(8):
        watched.vigil.took(f"{due_s}", 30 * SECOND, due_s, 0)
    assert watched.goes_on(120) is None
    for due_s in range(1, 8):
        watched.vigil.answered(f"{due_s}", 120)
    assert watched.goes_on(121) is None
    watched.vigil.answered("0", 121)
    assert watched.goes_on(1000) is None


def test_a_judge_that_was_away_judges_nobody_and_gives_the_time_back() -> None:
    watched = ready()
    watched.vigil.took("a", 0, 2.0, 0)
    assert watched.goes_on(8) is None
    assert watched.vigil.judge(1000.0) is None  # away for 991 s of these 992
    watched.now_s = 1000
    assert watched.goes_on(1001) is None
    assert watched.goes_on(1002) == "missed its deadline"
    assert watched.vigil.judge(5000.0) is None
