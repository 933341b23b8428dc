"""How fast one core takes audio in: parsing, ordering, decoding, resampling, VAD and segmenting, no engine.

In: seconds of audio to make. Out: × real time for 8 kHz µ-law and 16 kHz S16LE in chunks of 100 ms, and for webrtcvad
alone on the same samples, which is the limit. Times are CPU seconds of this thread: other load on the machine does not
count. The audio is made on the spot (harmonics under formants at the pace of syllables, with pauses); the share of
frames that webrtcvad calls speech is reported, so that a bench of silence would be seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streams.audio import AudioLimits, Pcm, decode
from streams.encode import encode
from streams.messages import Chunk, Origin, Record, SessionKey, chunk_headers, parse
from streams.order import InOrder, Orderer
from streams.resample import SAMPLE_RATE_HZ
from streams.vad import frames, warmed
from streams.windows import Cut, CutterConfig, SessionCutter, Window

CHUNK_MS = 100
PHRASE_S = 4
KEY = SessionKey("default", "bench", "bench")
CODECS = {"pcmu_8khz": "audio/PCMU", "s16le_16khz": "audio/x-raw"}


def run(seconds: float) -> dict[str, float]:
    """Measure on `seconds` of audio per codec; keys end in `_x` where the value is × real time."""
    audio = _voice(seconds)
    audio_s = audio.size / SAMPLE_RATE_HZ
    results = {"audio_s": round(audio_s, 1)}
    for name, content_type in CODECS.items():
        records = _records(audio, content_type)
        _ingest(records[:20])  # filter tables and imports are not what is measured
        started_s = time.thread_time()
        windows = _ingest(records)
        results[f"{name}_x"] = round(audio_s / (time.thread_time() - started_s), 1)
        results[f"{name}_windows"] = len(windows)
    detect = warmed(CutterConfig().vad_mode, audio[:0])
    cut = frames(audio)
    started_s = time.thread_time()
    voiced = sum(detect(frame) for frame in cut)
    results["webrtcvad_alone_x"] = round(audio_s / (time.thread_time() - started_s), 1)
    results["voiced_share"] = round(voiced / len(cut), 3)
    return results


def _ingest(records: Sequence[Record]) -> list[Window]:
    """What a worker does with the records of one session until its windows are ready for the engine."""
    limits = AudioLimits()
    orderer: Orderer[Chunk] = Orderer(next_sequence=0, max_wait_s=2.0, max_held=64)
    cutter = SessionCutter(KEY, CutterConfig(), {}, None)
    cuts: list[object] = []
    for now_s, record in enumerate(records):
        chunk = parse(record, limits.max_bytes)
        if not isinstance(chunk, Chunk):
            raise TypeError("only chunks are sent here")
        for outcome in orderer.push(chunk.sequence, chunk, float(now_s)):
            if isinstance(outcome, InOrder):
                pcm = decode(outcome.item.content_type, outcome.item.payload, limits)
                cuts += cutter.add(outcome.item, pcm, None)
    cuts += cutter.finish()
    return [cut.window for cut in cuts if isinstance(cut, Cut) and cut.window is not None]


def _records(audio: npt.NDArray[np.int16], content_type: str) -> list[Record]:
    encoded = encode(Pcm(audio[None], SAMPLE_RATE_HZ), content_type, CHUNK_MS)
    records = []
    for sequence, chunk in enumerate(encoded.chunks):
        headers = chunk_headers(KEY, sequence, chunk.start_sample, encoded.content_type, source="/bench")
        origin = Origin("audio.chunks", 0, sequence)
        place = (origin.topic, origin.partition, origin.offset)
        records.append(Record(*place, KEY.stream_id.encode(), chunk.payload, tuple(headers), 0))
    return records


def _voice(seconds: float) -> npt.NDArray[np.int16]:
    """int16 [n] at 16 kHz: phrases of four seconds, the last of each a pause."""
    rng = np.random.default_rng(7)
    phrases = []
    for _ in range(max(1, round(seconds / PHRASE_S))):
        t = np.arange(PHRASE_S * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        pitch_hz = rng.uniform(90, 200) * (1 + 0.08 * np.sin(2 * np.pi * rng.uniform(1.5, 3) * t))
        phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
        sound = rng.normal(0, 0.02, t.size)
        for harmonic in range(1, 20):
            frequency_hz = harmonic * float(pitch_hz.mean())
            strength = sum(
                1 / (1 + ((frequency_hz - f) / w) ** 2) for f, w in ((500, 90), (1500, 120), (2500, 160))
            )
            sound += (strength + 0.02) * np.sin(harmonic * phase)
        sound *= 0.55 + 0.45 * np.sin(2 * np.pi * rng.uniform(3, 5) * t)
        sound[t > PHRASE_S - 1] *= 0.002
        phrases.append(sound / np.abs(sound).max())
    return (np.concatenate(phrases) * 12_000).astype(np.int16)
