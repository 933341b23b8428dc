"""Dialog events depend on the transcripts alone, not on the moments at which they are asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.dialog import DialogConfig, Finding, Talk, settle, share_start

S = 16_000
PLAIN = DialogConfig(trim_start=0, trim_end=0)


def test_overtalk_and_silence_are_reported_once_known() -> None:
    talks = [Talk(0, 0, 4 * S), Talk(1, 3 * S, 6 * S), Talk(0, 12 * S, 13 * S)]
    findings, position = settle(talks, 2, 0, 14 * S, ended=False, config=PLAIN)
    assert findings == [
        Finding("overtalk", None, 3 * S, 4 * S, 1.0, "s"),
        Finding("non_talk", None, 6 * S, 12 * S, 6.0, "s"),
    ]
    assert position == 13 * S  # the silence after it is still open


def test_the_end_closes_what_is_open_and_reports_the_last_shares() -> None:
    findings, position = settle([Talk(0, 0, 2 * S)], 2, 0, 8 * S, ended=True, config=PLAIN)
    assert findings == [
        Finding("non_talk", None, 2 * S, 8 * S, 6.0, "s"),
        Finding("talk_share", 0, 0, 8 * S, 0.25, "ratio"),
        Finding("talk_share", 1, 0, 8 * S, 0.0, "ratio"),
    ]
    assert position == 8 * S


def test_a_period_without_talk_has_no_share_however_long_it_lasts() -> None:
    far = 1 << 55
    findings, position = settle(
        [Talk(0, 0, 2 * S), Talk(0, far, far + S)], 1, 0, far + S, ended=True, config=PLAIN
    )
    assert next(f.value for f in findings if f.event_type == "talk_share") == round(2 / 60, 4)
    assert len(findings) == 3
    assert position == far + S


def test_pre_roll_and_post_roll_are_no_overtalk() -> None:
    talks = [Talk(0, 0, 5 * S), Talk(1, 5 * S - 6000, 9 * S)]
    findings, _ = settle(talks, 2, 0, 9 * S, ended=True, config=DialogConfig())
    assert not [f for f in findings if f.event_type == "overtalk"]


talk = st.builds(
    lambda channel, start, length: Talk(channel, start, start + length),
    st.integers(0, 1),
    st.integers(0, 100 * S),
    st.integers(1, 20 * S),
)


@given(st.lists(talk, max_size=8), st.lists(st.integers(1, 110 * S), max_size=6))
def test_events_do_not_depend_on_the_moments_of_asking(talks: list[Talk], moments: list[int]) -> None:
    end = 120 * S
    whole, _ = settle(talks, 2, 0, end, ended=True, config=PLAIN)
    pieces, position = [], 0
    for settled in [*sorted(moments), end]:
        known = [t for t in talks if t.end > share_start(position, PLAIN) and t.start < settled]
        new, position = settle(known, 2, position, settled, ended=settled == end, config=PLAIN)
        pieces += new
    assert sorted(pieces, key=str) == sorted(whole, key=str)
