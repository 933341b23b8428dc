"""Where windows are cut, against the rules read over the whole run at once: streaming is the same as offline, and any
split of the audio gives the same windows.
"""

from __future__ import annotations

import itertools
from unittest.mock import patch

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streams.segmenter import Decision, Segmenter, SegmenterConfig, Silence, Speech, Split
from streams.tracks import Audio, Boundary, CutterConfig, Piece, SceneTrack, SpeechTrack
from streams.vad import FRAME_SAMPLES, Detector
from streams.windows import Cut, SessionCutter
from tests.streams.sound import KEY, Int16, noise, sent, voice

SMALL = SegmenterConfig(
    start_voiced=3,
    start_within=5,
    stop_voiced=1,
    hang=6,
    pre_roll=4,
    post_roll=3,
    min_speech=5,
    max_window=24,
    silence_step=20,
)
CUTTER = CutterConfig(
    start_voiced_ms=60,
    start_within_ms=100,
    stop_voiced_ms=20,
    hang_ms=120,
    pre_roll_ms=80,
    post_roll_ms=60,
    min_speech_ms=100,
    max_window_s=0.8,
    silence_step_s=0.4,
    scene_hop_s=0.5,
    scene_min_s=0.1,
)
# flags as speech has them: stretches, with single ones of the other kind between
FLAGS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([1, 2, 3, 5, 7, 12, 30])), min_size=1, max_size=14
).map(lambda stretches: [voiced for voiced, length in stretches for _ in range(length)])


def decide(flags: list[bool], config: SegmenterConfig, in_speech: bool) -> tuple[Decision | None, int]:
    """The first decision after a boundary and the frames read for it, by the rules in words:

    speech begins when `start_voiced` of the last `start_within` frames are voiced; it ends when of the last `hang` at
    most `stop_voiced` are, and is forgotten when it was too short; a window may be `max_window` long, silence
    `silence_step`. A boundary in speech counts as if voice had filled the time before it.
    """
    past = [True] * config.hang if in_speech else []
    begin = 0 if in_speech else None  # of the open window
    onset, voiced_to, least = 0, 0, 1 if in_speech else config.min_speech
    fresh = 0  # frames before this one are forgotten
    for read in range(1, len(flags) + 1):
        heard = (past if fresh == 0 else []) + flags[fresh:read]
        if begin is None:
            recent = flags[max(fresh, read - config.start_within) : read]
            if flags[read - 1] and sum(recent) >= config.start_voiced:
                onset = read - len(recent) + recent.index(True)
                begin, voiced_to = max(0, onset - config.pre_roll), read
            elif read >= config.silence_step:
                return Silence(config.silence_step - config.pre_roll), read
            continue
        if flags[read - 1]:
            voiced_to = read
        elif sum(heard[-config.hang :]) <= config.stop_voiced:
            if voiced_to - onset >= least:
                return Speech(begin, min(voiced_to + config.post_roll, read), voiced_to), read
            begin, fresh, least = None, read, config.min_speech
            continue
        if read - begin >= config.max_window:
            return Split(begin, read - config.max_window // 3, read), read
    if begin is not None and voiced_to - onset >= least:
        return Speech(begin, min(voiced_to + config.post_roll, len(flags)), voiced_to), 0
    return None, 0


@settings(derandomize=True, max_examples=300, deadline=None)
@given(flags=FLAGS, in_speech=st.booleans())
def test_decisions_are_those_of_the_rules(flags: list[bool], in_speech: bool) -> None:
    decision, read = decide(flags, SMALL, in_speech)
    segmenter = Segmenter(SMALL, in_speech)
    told = [segmenter.push(voiced) for voiced in flags[: read or len(flags)]]
    if read:
        assert told == [None] * (read - 1) + [decision]
    else:
        assert told == [None] * len(flags)
        assert segmenter.close() == decision


def flagged(mode: int, past: Int16) -> Detector:
    """A detector that hears a voice in each frame of positive samples: flags can be written as audio."""
    return lambda frame: int.from_bytes(frame[:2], "little", signed=True) > 0


def audio_of(flags: list[bool], loudness: list[int], rest: int) -> Int16:
    """Frames with these flags, each as loud as told, and `rest` samples that make no frame."""
    frames = [(1 if flag else -1) * loudness[i % len(loudness)] for i, flag in enumerate(flags)]
    return np.concatenate([np.repeat(np.array(frames, np.int16), FRAME_SAMPLES), np.full(rest, -1, np.int16)])


def offline(flags: list[bool], audio: Int16) -> list[Piece]:
    """The speech track of one run from its flags as a whole."""
    config = CUTTER.segmenter
    at, in_speech, pieces = 0, False, []
    frame = FRAME_SAMPLES
    while at * frame < audio.size:
        decision, read = decide(flags[at:], config, in_speech)
        base = at * frame
        if isinstance(decision, Silence):
            at, in_speech = at + decision.end, False
            pieces.append(Piece(Boundary(at * frame, 0), None))
        elif isinstance(decision, Split):
            energy = [
                int(x) ** 2
                for x in audio[base + decision.first * frame : base + decision.last * frame : frame]
            ]
            around = [
                sum(energy[min(max(j, 0), len(energy) - 1)] for j in range(i - 2, i + 3))
                for i in range(len(energy))
            ]
            cut = decision.first + around.index(min(around))
            pieces.append(
                Piece(
                    Boundary((at + cut) * frame, 0, True),
                    (base + decision.start * frame, (at + cut) * frame),
                    (at + cut) * frame,
                )
            )
            at, in_speech = at + cut, True
        elif isinstance(decision, Speech):
            end = (at + decision.end) * frame
            after = Boundary(end, 0)
            if not read and end + frame > audio.size:
                end = audio.size
                after = Boundary(end, end)
            pieces.append(
                Piece(
                    after, (base + decision.start * frame, end), min((at + decision.speech_end) * frame, end)
                )
            )
            if after.sample == audio.size and after.run_start == audio.size:
                return pieces
            at, in_speech = at + decision.end, False
        else:
            break
    pieces.append(Piece(Boundary(audio.size, audio.size), None))
    return pieces


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    flags=FLAGS,
    loudness=st.lists(st.integers(1, 9), min_size=1, max_size=7),
    rest=st.integers(0, FRAME_SAMPLES - 1),
    sizes=st.lists(st.integers(1, 40 * FRAME_SAMPLES), min_size=1, max_size=5),
)
def test_any_split_gives_the_windows_of_the_whole(
    flags: list[bool], loudness: list[int], rest: int, sizes: list[int]
) -> None:
    samples = audio_of(flags, loudness, rest)
    with patch("streams.tracks.warmed", flagged):
        track, audio, pieces = SpeechTrack(CUTTER, Boundary(0, 0)), Audio(0), list[Piece]()
        at = count = 0
        while at < samples.size:
            size = sizes[count % len(sizes)]
            audio.append(samples[at : at + size])
            pieces += track.advance(audio)
            audio.drop_before(track.needs)
            at, count = at + size, count + 1
        pieces += track.close(audio)
    assert pieces == offline(flags, samples)
    edges = [0, *(piece.after.sample for piece in pieces)]
    assert edges == sorted(edges)
    assert all(
        p.window is None or (a <= p.window[0] < p.window[1] == b)
        for p, a, b in zip(pieces, edges, edges[1:], strict=False)
    )


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    start=st.integers(0, 30_000),
    length=st.integers(1, 60_000),
    sizes=st.lists(st.integers(1, 20_000), min_size=1, max_size=5),
)
def test_scenes_tile_a_run_along_the_grid(start: int, length: int, sizes: list[int]) -> None:
    track, audio, pieces = SceneTrack(CUTTER, Boundary(start, start)), Audio(start), list[Piece]()
    at = count = 0
    while at < length:
        size = min(sizes[count % len(sizes)], length - at)
        audio.append(np.zeros(size, np.int16))
        pieces += track.advance(audio)
        at, count = at + size, count + 1
    pieces += track.close(audio)
    hop, end = CUTTER.scene_hop_samples, start + length
    edges = [start, *range((start // hop + 1) * hop, end, hop), end]
    spans = list(itertools.pairwise(edges))
    whole = [piece for piece in pieces if piece.after.sample > start]
    assert [piece.window for piece in whole if piece.window] == [
        (a, b) for a, b in spans if b - a >= CUTTER.scene_min_samples
    ]
    assert pieces[-1].after == Boundary(end, end)


@settings(
    derandomize=True,
    max_examples=12,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    plan=st.lists(st.sampled_from([-0.3, -0.6, -1.5, 0.2, 0.7, 2.4]), min_size=2, max_size=6),
    seed=st.integers(0, 50),
    rate=st.sampled_from([8000, 16_000, 44_100]),
    sizes=st.lists(st.integers(80, 30_000), min_size=1, max_size=4),
)
def test_any_chunking_of_real_sound_gives_the_same_windows(
    plan: list[float], seed: int, rate: int, sizes: list[int]
) -> None:
    parts = [voice(s, seed + i, rate) if s > 0 else noise(-s, seed + i, rate) for i, s in enumerate(plan)]
    audio = np.concatenate(parts)[None]
    config = CutterConfig(max_window_s=3.2, silence_step_s=1, scene_hop_s=1, scene_min_s=0.2)

    def windows(chunks: list[Int16]) -> list[tuple[object, ...]]:
        cutter, start, out = SessionCutter(KEY, config, {}, None), 0, []
        for sequence, samples in enumerate(chunks):
            one = sent(sequence, start, samples, rate)
            out += cutter.add(one.chunk, one.pcm, None)
            start += samples.shape[1]
        cuts = [cut for cut in [*out, *cutter.finish()] if isinstance(cut, Cut)]
        found = [(c.track, c.after.sample, c.window and c.window.audio.tobytes()) for c in cuts]
        return sorted(found, key=lambda entry: entry[:2])

    edges, at = [0], 0
    while at < audio.shape[1]:
        at += sizes[len(edges) % len(sizes)]
        edges.append(min(at, audio.shape[1]))
    split = [audio[:, a:b] for a, b in itertools.pairwise(edges)]
    assert windows(split) == windows([audio])
