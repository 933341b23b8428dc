"""Windows are a pure function of the audio: neither chunking nor a restart anywhere changes one of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streams.errors import Reject
from streams.windows import Boundary, Cut, CutterConfig, Gap, SessionCutter, Track, Window, needed_sample
from tests.streams.sound import KEY, Int16, Sent, noise, sent, talk, voice

CONFIG = CutterConfig(max_window_s=4, silence_step_s=2, scene_hop_s=3)
QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=30,
    phases=(Phase.explicit, Phase.generate),  # shrinking a failure takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
TRACKS = (Track.SPEECH, Track.SCENE)
Boundaries = dict[tuple[int, Track], Boundary]


def chunked(samples: Int16, rate: int, sizes: Sequence[int], first: int = 0) -> list[Sent]:
    """Cut int16 [channels, n] into chunks whose sizes (samples) go round and round."""
    chunks, at = [], 0
    while at < samples.shape[1]:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(sent(len(chunks), first + at, samples[:, at : at + size], rate))
        at += size
    return chunks


def cut_all(
    chunks: Sequence[Sent], boundaries: Boundaries | None = None, flush_after: int = -1
) -> list[Cut | Gap]:
    """What a life of the process makes of these chunks, the end of the session included."""
    cutter = SessionCutter(KEY, CONFIG, boundaries or {}, None)
    out: list[Cut | Gap] = []
    for c in chunks:
        out += cutter.add(c.chunk, c.pcm, None)
        if c.chunk.sequence == flush_after:
            out += cutter.finish()
    return out + cutter.finish()


def fitting(chunks: Sequence[Sent], flush_after: int = -1) -> list[Sent]:
    """The chunks that are not refused. What is refused stays so: its dead letter is committed before what follows."""
    cutter, kept = SessionCutter(KEY, CONFIG, {}, None), []
    for c in chunks:
        with suppress(Reject):
            cutter.add(c.chunk, c.pcm, None)
            kept.append(c)
        if c.chunk.sequence == flush_after:
            cutter.finish()
    return kept


def cuts(out: Sequence[Cut | Gap]) -> list[Cut]:
    return [c for c in out if isinstance(c, Cut)]


def shown(window: Window, sources: bool = True) -> tuple[object, ...]:
    """All of a window that can be compared."""
    place = (window.channel, window.track, window.start_sample, window.end_sample, window.speech_end_sample)
    return (*place, window.audio.tobytes(), *((window.origin, window.traceparents) if sources else ()))


def windows(out: Sequence[Cut | Gap], sources: bool = True) -> list[tuple[object, ...]]:
    return sorted((shown(c.window, sources) for c in cuts(out) if c.window), key=lambda w: w[:4])  # type: ignore[misc]


def resumed(chunks: Sequence[Sent], boundaries: Boundaries) -> list[Cut | Gap]:
    """A new life that goes on from boundaries, reading again from the first chunk that they need."""
    lowest = min(needed_sample(b, CONFIG) for b in boundaries.values())
    at = 0
    while at < len(chunks) and chunks[at].end_sample <= lowest:
        at += 1
    return cut_all(chunks[at:], boundaries)


def check_every_restart(
    chunks: Sequence[Sent], channels: int, choose: st.DataObject, *, flush_after: int = -1, restarts: int = 4
) -> None:
    """Restart from boundaries that each track commits at its own pace; all must come out as without a restart."""
    whole = cut_all(chunks, flush_after=flush_after)
    by_track = {
        (channel, track): [c for c in cuts(whole) if (c.channel, c.track) == (channel, track)]
        for channel in range(channels)
        for track in TRACKS
    }
    for _ in range(restarts):
        done = {
            key: choose.draw(st.integers(1, len(steps)), f"{key} done") for key, steps in by_track.items()
        }
        boundaries = {key: steps[done[key] - 1].after for key, steps in by_track.items()}
        if (
            flush_after >= 0
        ):  # an idle flush cannot be told from the audio: it holds once any track has committed it
            end = chunks[flush_after].end_sample
            key = choose.draw(st.sampled_from(sorted(by_track)), "the one that committed the flush")
            boundaries[key] = next(
                c.after for c in by_track[key] if c.after.sample >= end and c.after.run_start >= end
            )
            done[key] = 1 + next(i for i, c in enumerate(by_track[key]) if c.after == boundaries[key])
        again = cuts(resumed(chunks, boundaries))
        for key, steps in by_track.items():
            rest = [c for c in again if (c.channel, c.track) == key]
            expected = steps[done[key] :]
            assert [c.after for c in rest] == [c.after for c in expected], key
            assert windows(rest) == windows(expected), key


@pytest.fixture(scope="module")
def call() -> dict[int, Int16]:
    """Two channels that take turns, with a long silence and a voice that goes on past the longest window."""
    made = {}
    for rate in (8000, 16_000, 44_100, 48_000):
        agent = talk([-0.7, 1.3, -1.1, 0.5, -0.5, 6.3, -5.4, 0.9], 1, rate)
        customer = talk([-2.9, 1.9, -7.3, 2.1], 7, rate)
        size = min(agent.size, customer.size)
        made[rate] = np.stack([agent[:size], customer[:size]])
    return made


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_any_chunking_gives_the_same_windows(call: dict[int, Int16], rate: int) -> None:
    audio = call[rate]
    whole = cut_all([sent(0, 0, audio, rate)])
    assert {c.window is None for c in cuts(whole)} == {True, False}

    @settings(QUICK, max_examples=6)
    @given(st.lists(st.integers(rate // 100, rate * 2), min_size=1, max_size=6))
    def check(sizes: list[int]) -> None:
        out = cut_all(chunked(audio, rate, sizes))
        assert windows(out, sources=False) == windows(whole, sources=False)
        assert sorted(c.after.sample for c in cuts(out)) == sorted(c.after.sample for c in cuts(whole))

    check()


@pytest.mark.parametrize(("rate", "size"), [(8000, 160), (16_000, 1600), (44_100, 4410), (48_000, 3333)])
def test_a_restart_anywhere_changes_no_window(call: dict[int, Int16], rate: int, size: int) -> None:
    chunks = chunked(call[rate], rate, [size])

    @settings(QUICK, max_examples=4)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        check_every_restart(chunks, 2, data)

    check()


@pytest.mark.parametrize(("rate", "size"), [(8000, 800), (44_100, 4410)])
def test_a_restart_after_an_idle_flush_changes_no_window(
    call: dict[int, Int16], rate: int, size: int
) -> None:
    chunks = chunked(call[rate], rate, [size])

    @settings(QUICK, max_examples=8)
    @given(st.integers(20, 90), st.data())
    def check(flush_after: int, data: st.DataObject) -> None:
        check_every_restart(chunks, 2, data, flush_after=flush_after, restarts=1)

    check()


@settings(QUICK, max_examples=16)
@given(data=st.data(), rate=st.sampled_from([8000, 44_100]), flush=st.booleans())
def test_ragged_chunks_and_holes_survive_a_restart(
    call: dict[int, Int16], data: st.DataObject, rate: int, flush: bool
) -> None:
    """Chunks longer and shorter than their place (codec delay), and holes of a few seconds."""
    audio, size = call[rate], rate // 5
    chunks, shift = [], 0
    for sequence in range(audio.shape[1] // size):
        start = sequence * size
        kind = data.draw(st.sampled_from(["even", "even", "even", "long", "short", "hole"]))
        extra = data.draw(st.integers(1, rate // 10 - 1)) if kind != "even" else 0
        samples = audio[:, start : start + size + {"long": extra, "short": -extra}.get(kind, 0)]
        shift += extra + rate // 10 if kind == "hole" else 0
        chunks.append(sent(sequence, shift + start, samples, rate))
    flush_after = data.draw(st.integers(15, 40)) if flush else -1
    check_every_restart(fitting(chunks, flush_after), 2, data, flush_after=flush_after, restarts=2)


def test_every_track_is_covered_without_overlap(call: dict[int, Int16]) -> None:
    out = cut_all(chunked(call[8000], 8000, [800]))
    end = call[8000].shape[1] * 2
    for channel in (0, 1):
        for track in TRACKS:
            at = 0
            for cut in cuts(out):
                if (cut.channel, cut.track) == (channel, track):
                    assert cut.after.sample > at or cut.after == Boundary(end, end)
                    if cut.window:
                        assert at <= cut.window.start_sample < cut.window.end_sample == cut.after.sample
                        assert cut.window.audio.size == cut.window.end_sample - cut.window.start_sample
                        assert cut.window.speech_end_sample <= cut.window.end_sample
                    at = cut.after.sample
            assert at == end


def test_speech_is_found_with_its_roll_and_nothing_else() -> None:
    audio = np.concatenate([noise(2, 1), voice(1.5, 2), noise(2, 3)])[None]
    found = [
        c.window
        for c in cuts(cut_all(chunked(audio, 16_000, [1600])))
        if c.track is Track.SPEECH and c.window
    ]
    assert len(found) == 1
    begin, end = 2 * 16_000, round(3.5 * 16_000)
    assert begin - 0.45 * 16_000 <= found[0].start_sample <= begin - 0.2 * 16_000
    assert end <= found[0].end_sample <= end + 0.5 * 16_000
    assert abs(found[0].speech_end_sample - end) <= 0.3 * 16_000


def test_a_long_voice_is_split_where_it_is_quietest_and_goes_on() -> None:
    long = voice(9, 5)
    long[round(3.5 * 16_000) : round(3.6 * 16_000)] = 0
    out = cut_all(chunked(np.concatenate([long, noise(1, 3)])[None], 16_000, [1600]))
    found = [c for c in cuts(out) if c.track is Track.SPEECH and c.window]
    assert len(found) >= 3
    first, second = found[0], found[1]
    assert first.after.in_speech
    assert 3.5 * 16_000 <= first.after.sample <= 3.6 * 16_000
    assert second.window is not None
    assert second.window.start_sample == first.after.sample
    assert all(c.window.end_sample - c.window.start_sample <= 4 * 16_000 for c in found if c.window)


def test_silence_advances_in_fixed_steps() -> None:
    out = cut_all(chunked(noise(10, 1)[None], 16_000, [1600]))
    steps = [c.after.sample for c in cuts(out) if c.track is Track.SPEECH]
    assert steps[:5] == [round(1.7 * 16_000) * n for n in range(1, 6)]
    assert not any(c.window for c in cuts(out) if c.track is Track.SPEECH)


def test_scene_pieces_follow_the_grid_and_short_ones_only_advance() -> None:
    out = cut_all(chunked(noise(6.5, 1)[None], 16_000, [1600], first=16_000))
    scene = [
        (c.window and c.window.start_sample, c.after.sample) for c in cuts(out) if c.track is Track.SCENE
    ]
    assert [(s, e // 1600) for s, e in scene] == [(None, 10), (16_000, 30), (48_000, 60), (96_000, 75)]


def test_a_hole_is_a_gap_and_cuts_every_track() -> None:
    audio = voice(2, 1)[None]
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    out = cutter.add(*_pair(sent(0, 0, audio, 16_000)), None)
    assert not [c for c in out if isinstance(c, Gap)]
    out = cutter.add(*_pair(sent(3, 48_000, audio, 16_000)), (1, 2))
    assert [c for c in out if isinstance(c, Gap)] == [Gap(1, 2, 32_000, 48_000)]
    at_hole = [c for c in out if isinstance(c, Cut)]
    assert [c.after for c in at_hole if c.track is Track.SPEECH] == [
        Boundary(32_000, 32_000),
        Boundary(48_000, 48_000),
    ]
    assert [c.window.end_sample for c in at_hole if c.window] == [32_000, 32_000]


def test_small_holes_are_filled_and_small_overlaps_trimmed() -> None:
    audio = voice(3, 1)[None]
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    parts = [(0, audio[:, :16_800]), (16_000, audio[:, 16_000:30_000]), (31_600, audio[:, 31_600:])]
    out = [c for i, (at, a) in enumerate(parts) for c in cutter.add(*_pair(sent(i, at, a, 16_000)), None)]
    out += cutter.finish()
    heard = np.concatenate(
        [c.window.audio for c in out if isinstance(c, Cut) and c.window and c.track is Track.SCENE]
    )
    expected = audio[0].copy()
    expected[30_000:31_600] = 0
    assert np.array_equal(heard, expected)
    assert not [c for c in out if isinstance(c, Gap)]


def test_a_missing_chunk_of_known_place_is_noted_even_without_a_hole() -> None:
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    cutter.add(*_pair(sent(0, 0, noise(1, 1)[None], 16_000)), None)
    assert Gap(1, 1, 16_000, 17_600) in cutter.add(*_pair(sent(2, 17_600, noise(1, 1)[None], 16_000)), (1, 1))


def place(cutter: SessionCutter, start: int, samples: int, rate: int = 16_000) -> str:
    """Add a chunk of noise: "" or the reason why it is refused."""
    try:
        cutter.add(*_pair(sent(0, start, noise(samples / rate, 1, rate)[None], rate)), None)
    except Reject as reject:
        return reject.reason
    return ""


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 48_000])
def test_a_chunk_that_brings_little_or_nothing_new_is_refused(rate: int) -> None:
    cutter, tenth = SessionCutter(KEY, CONFIG, {}, None), rate // 10
    assert place(cutter, 0, 10 * tenth, rate) == ""
    assert place(cutter, 10 * tenth - 50, 50, rate) == "overlap"  # all of it is there
    assert place(cutter, 10 * tenth - 50, 90, rate) == "overlap"  # most of it is there
    assert place(cutter, 10 * tenth - 1, 1, rate) == "overlap"
    assert place(cutter, 10 * tenth - 50, 100, rate) == ""


def test_what_is_trimmed_is_bounded_over_all_chunks() -> None:
    cutter = SessionCutter(
        KEY, CONFIG, {}, None
    )  # positions at 8 kHz of audio at 16 kHz: half of it overlaps
    refused = [place(cutter, n * 1600, 3200) for n in range(200)]
    assert refused.count("overlap") in range(80, 101)
    assert cutter.end_sample >= 200 * 1600
    jitter = SessionCutter(KEY, CONFIG, {}, None)
    assert {place(jitter, n * 320 + 80 * (n % 2), 320) for n in range(500)} == {""}


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 48_000])
@pytest.mark.parametrize("pause", ["none", "flush", "restart"])
def test_positions_that_begin_again_overlap_whatever_pause_there_was(rate: int, pause: str) -> None:
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    second = noise(1, 1, rate)[None]
    out = [c for n in range(3) for c in cutter.add(*_pair(sent(n, n * rate, second, rate)), None)]
    if pause != "none":
        out += cutter.finish()
    if pause == "restart":
        cutter = SessionCutter(KEY, CONFIG, {(c.channel, c.track): c.after for c in cuts(out)}, ())
    tenth = rate // 10
    for start in (0, rate, 3 * rate - tenth - 3, 3 * rate - 30):
        assert place(cutter, start, 50 if start > 2 * rate else rate, rate) == "overlap"
    assert place(cutter, 3 * rate - tenth, 5 * tenth, rate) == ""


def test_audio_that_is_to_be_read_again_is_no_overlap() -> None:
    chunks = chunked(voice(8, 1)[None], 16_000, [1600])
    steps = [c for c in cuts(cut_all(chunks)) if c.track is Track.SPEECH]
    boundaries = {(0, Track.SPEECH): steps[0].after, (0, Track.SCENE): Boundary(48_000, 0)}
    needed = min(needed_sample(b, CONFIG) for b in boundaries.values())
    assert place(SessionCutter(KEY, CONFIG, boundaries, ()), needed - 1600, 1600) == "overlap"
    assert place(SessionCutter(KEY, CONFIG, boundaries, ()), needed - 1599, 1600) == ""


def test_the_roles_of_the_first_chunk_hold() -> None:
    def role(cutter: SessionCutter, *roles: tuple[str, ...] | None) -> set[str | None]:
        out: list[Cut | Gap] = []
        for n, each in enumerate(roles):
            out += cutter.add(*_pair(sent(n, n * 32_000, voice(2, 1)[None], 16_000, roles=each)), None)
        return {c.window.role for c in cuts(out + cutter.finish()) if c.window}

    assert role(SessionCutter(KEY, CONFIG, {}, None), None, ("agent",)) == {None}
    assert role(SessionCutter(KEY, CONFIG, {}, None), ("agent",), ("customer",)) == {"agent"}
    assert role(SessionCutter(KEY, CONFIG, {}, ()), ("agent",), ("agent",)) == {None}
    assert role(SessionCutter(KEY, CONFIG, {}, ("agent",)), None, None) == {"agent"}


def test_a_session_takes_the_memory_of_its_audio() -> None:
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    cutter.add(*_pair(sent(0, 0, np.zeros((8, 400), np.int16), 16_000)), None)
    assert 0 < cutter.size_bytes < 20_000
    for n in range(1, 600):
        cutter.add(*_pair(sent(n, n * 1600, noise(0.1, n)[None].repeat(8, 0), 16_000)), None)
        assert cutter.size_bytes < 8 * 5 * 32_000 * 2


def test_refused_chunks_leave_the_session_as_it_was() -> None:
    audio = voice(2, 1)[None]
    chunks = chunked(audio, 16_000, [1600])
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    out: list[Cut | Gap] = []
    for c in chunks:
        out += cutter.add(c.chunk, c.pcm, None)
        for bad, reason in (
            (sent(99, c.chunk.start_sample + 1600, np.zeros((2, 1600), np.int16), 16_000), "format_changed"),
            (sent(99, c.chunk.start_sample + 1600, np.zeros((1, 800), np.int16), 8000), "format_changed"),
            (sent(99, max(0, c.chunk.start_sample - 1600), audio[:, :1600], 16_000), "overlap"),
        ):
            if c.chunk.sequence:
                with pytest.raises(Reject) as refused:
                    cutter.add(bad.chunk, bad.pcm, None)
                assert refused.value.reason == reason
    assert windows(out + cutter.finish()) == windows(cut_all(chunks))


def test_lost_audio_before_the_resume_point_does_not_stop_a_session() -> None:
    chunks = chunked(voice(8, 1)[None], 16_000, [1600])
    steps = [c for c in cuts(cut_all(chunks)) if c.track is Track.SPEECH]
    boundaries = {(0, Track.SPEECH): steps[0].after, (0, Track.SCENE): Boundary(48_000, 0)}
    for first in (35, 60):
        out = cut_all(chunks[first:], boundaries)
        scene = [c for c in cuts(out) if c.track is Track.SCENE]
        assert scene[-1].after == Boundary(128_000, 128_000)
        assert all(c.window.start_sample >= first * 1600 for c in scene if c.window)


def test_windows_know_their_chunks_and_role() -> None:
    cutter = SessionCutter(KEY, CONFIG, {}, None)
    chunks = chunked(np.stack([voice(2, 1), voice(2, 2)]), 16_000, [1600])
    out: list[Cut | Gap] = []
    for c in chunks:
        c = sent(c.chunk.sequence, c.chunk.start_sample, c.pcm.samples, 16_000, roles=("agent", "customer"))
        out += cutter.add(c.chunk, c.pcm, None)
    out += cutter.finish()
    assert cutter.channels == 2
    for window in (c.window for c in cuts(out) if c.window):
        assert window.role == ("agent", "customer")[window.channel]
        assert window.origin == chunks[window.start_sample // 1600].chunk.origin
        inside = chunks[window.start_sample // 1600 : -(-window.end_sample // 1600)]
        assert window.traceparents == tuple(c.chunk.traceparent for c in inside)


@pytest.mark.parametrize(
    ("boundary", "needed"),
    [
        (Boundary(0, 0), 0),
        (Boundary(16_000, 0), 0),
        (Boundary(160_000, 160_000), 160_000),
        (Boundary(160_000, 0), 160_000 - 16_000 - 1600 - 320),
        (Boundary(16_500, 0), 0),
    ],
)
def test_needed_sample(boundary: Boundary, needed: int) -> None:
    assert needed_sample(boundary, CONFIG) == needed


def _pair(one: Sent) -> tuple:  # type: ignore[type-arg]
    return one.chunk, one.pcm
