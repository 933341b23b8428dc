"""Seeded input for the simulated world, and the run itself: producers write a log, a worker reads it,
dies, and starts again.

`Scenario` is what producers wrote; `play` feeds it to fresh pipelines until everything is settled. The
expected rows come from
the same audio cut offline by one `SessionCutter` that never restarts.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field

import numpy as np

from streams.audio import AudioLimits, decode
from streams.messages import Chunk, Record, SessionKey, chunk_headers, end_headers, parse
from streams.windows import Cut, CutterConfig, SessionCutter
from tests.sim.world import Crash, Faults, HashEngine, MemoryPublisher, MemoryStore, Silent
from workers.dialog import DialogConfig
from workers.pipeline import Pipeline, PipelineLimits
from workers.session import SessionLimits

TOPIC = "audio.chunks"
CONTENT = "audio/x-raw;format=S16LE;rate=16000;channels=%d"
CHUNK = 1600  # samples: 100 ms
LIMITS = PipelineLimits(
    session=SessionLimits(
        audio=AudioLimits(),
        cutter=CutterConfig(max_window_s=8),
        dialog=DialogConfig(share_every=10 * 16_000),
        reorder_wait_s=1.0,
        reorder_max_held=32,
        dead_letter_bytes=1000,
    ),
    max_chunk_bytes=1 << 20,
    max_inflight_windows=8,
    max_uncommitted_records=500,
    idle_flush_s=60.0,
    sweep_interval_s=3.0,
    sweep_older_than_s=2.0,
    sweep_batch=100,
    speech_deadline_s=5.0,
    scene_deadline_s=30.0,
    live_lag_records=100,
)


@dataclass
class Scenario:
    """A log of one partition with the virtual time at which each record arrives."""

    records: list[Record] = field(default_factory=list)
    arrival_s: list[float] = field(default_factory=list)
    sessions: list[SessionKey] = field(default_factory=list)
    duplicates: int = 0
    bad: int = 0

    def append(
        self, arrival_s: float, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]
    ) -> None:
        """Write one record to the log."""
        offset = len(self.records)
        self.records.append(Record(TOPIC, 0, offset, key, value, tuple(headers), int(arrival_s * 1000)))
        self.arrival_s.append(max([arrival_s, *self.arrival_s[-1:]]))


def speech_like(rng: np.random.Generator, seconds: float, channels: int) -> np.ndarray:
    """`int16 [n, channels]`: bursts of modulated harmonics that webrtcvad takes for speech, and pauses between them."""
    n = int(seconds * 16_000)
    out = np.zeros((n, channels))
    for channel in range(channels):
        at = 0
        while at < n:
            at += int(rng.uniform(0.2, 2.5) * 16_000)
            length = int(rng.uniform(0.4, 4.0) * 16_000)
            t = np.arange(min(length, max(0, n - at))) / 16_000
            pitch = 110 + 60 * rng.random() + 10 * np.sin(2 * np.pi * 3 * t)
            phase = 2 * np.pi * np.cumsum(pitch) / 16_000
            voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))
            out[at : at + len(t), channel] += 4000 * voice
            at += length
    out += rng.normal(0, 20, out.shape)
    return np.clip(out, -32768, 32767).astype("<i2")


def write_log(seed: int, *, streams: int = 2, seconds: float = 25.0, lost: float = 0.0) -> Scenario:
    """Interleaved sessions in real time with duplicates, small reorderings, records that are no messages,
    and lost chunks.
    """
    rng, audio_rng = random.Random(seed), np.random.default_rng(seed)
    planned: list[tuple[float, bytes, bytes, list[tuple[str, bytes]], str]] = []
    scenario = Scenario()
    for number in range(streams):
        channels = 1 + number % 2
        key = SessionKey("default", f"s{number}", f"{seed}-{number}")
        scenario.sessions.append(key)
        audio = speech_like(audio_rng, seconds * rng.uniform(0.6, 1.0), channels)
        starts = range(0, len(audio), CHUNK)
        for sequence, start in enumerate(starts):
            if rng.random() < lost:
                continue
            at_s = number * 0.01 + start / 16_000 + (rng.uniform(0.1, 0.6) if rng.random() < 0.03 else 0.1)
            headers = chunk_headers(key, sequence, start, CONTENT % channels, source="sim")
            entry = (at_s, key.stream_id.encode(), audio[start : start + CHUNK].tobytes(), headers)
            planned.append((*entry, "chunk"))
            if rng.random() < 0.02:
                planned.append((at_s + rng.uniform(0.0, 2.0), *entry[1:], "duplicate"))
            if rng.random() < 0.01:
                planned.append((at_s, b"x", b"rubbish", [("ce_type", b"audio.chunk.v1")], "bad"))
        end_s = number * 0.01 + len(audio) / 16_000 + 2.5
        planned.append(
            (end_s, key.stream_id.encode(), b"", end_headers(key, len(starts), source="sim"), "end")
        )
    for at_s, record_key, value, headers, kind in sorted(planned, key=lambda p: p[0]):
        scenario.append(at_s, record_key, value, headers)
        scenario.duplicates += kind == "duplicate"
        scenario.bad += kind == "bad"
    return scenario


def dirty_log(seed: int) -> Scenario:
    """What no producer should write: wild and repeated numbers, positions that leap or begin again, odd formats and
    roles, halves of samples, records without a key, ends in the middle and twice, sessions without an id.
    """
    rng, audio_rng = random.Random(seed), np.random.default_rng(seed)
    planned: list[tuple[float, bytes | None, bytes, list[tuple[str, bytes]]]] = []
    scenario = Scenario()
    for number in range(rng.choice([1, 2])):
        channels, rate = rng.choice([1, 2]), rng.choice([8000, 11_025, 16_000, 44_100])
        size = rng.choice([rate // 50, rate // 10, rate // 4])
        key = SessionKey("default", f"s{number}", rng.choice(["0", f"u{number}"]))
        scenario.sessions.append(key)
        audio = speech_like(audio_rng, rng.uniform(3, 12), channels)
        at_s, sequence, shift = number * 0.01, 0, 0
        for start in range(0, len(audio), size):
            at_s += size / rate
            if rng.random() < 0.015:
                shift += rng.choice([-rate // 20, rate // 20, rate // 11, rate // 5, 3 * rate, -rate, -start])
            if rng.random() < 0.01:
                at_s += rng.choice([0, 3, 9, 30])
            if rng.random() < 0.015:
                sequence = max(0, sequence + rng.choice([-3, -1, 1, 2, 40, 50_000]))
            numbers = [sequence, max(0, start + shift)]
            body, content = audio[start : start + size].tobytes(), (rate, channels)
            match rng.randrange(300):
                case 0:
                    numbers[0] = rng.choice([(1 << 53) - 1, 70_000])
                case 1:
                    numbers[1] = rng.choice([(1 << 53) - 1, 16_000 * 1_700_000])
                case 2:
                    body = body[:-1]
                case 3:
                    content = (rate, 3 - channels)
                case 4:
                    content = (48_000, channels)
            headers = chunk_headers(
                key,
                *numbers,
                "audio/x-raw;format=S16LE;rate=%d;channels=%d" % content,
                source="sim",
                ce_id=f"{key.stream_id}-{sequence}" if rng.random() < 0.99 else f"other-{start}",
                roles=["agent", "customer"][:channels] if rng.random() < 0.5 else None,
            )
            record_key = key.stream_id.encode() if rng.random() < 0.995 else None
            entry = (record_key, body, headers)
            late_s = rng.uniform(0.05, 0.8) if rng.random() < 0.05 else 0
            if rng.random() < 0.99:
                planned.append((at_s + late_s, *entry))
            if rng.random() < 0.02:
                planned.append((at_s + rng.uniform(0, 3), *entry))
            if rng.random() < 0.003:
                end = end_headers(key, rng.choice([None, sequence, sequence + 1]), source="sim", ce_id="end")
                planned.append((at_s, key.stream_id.encode(), b"", end))
            sequence += 1
        for again in range(rng.choice([0, 1, 1, 2])):
            end = end_headers(key, rng.choice([sequence, None]), source="sim", ce_id="end")
            planned.append((at_s + 1 + again, key.stream_id.encode(), b"", end))
    for arrival_s, record_key, value, headers in sorted(planned, key=lambda p: p[0]):
        scenario.append(arrival_s, record_key, value, headers)
    return scenario


def expected_texts(scenario: Scenario) -> set[tuple[str, str, int, str]]:
    """`(kind, stream, channel, text)` of every window, from each session cut in one go without faults."""
    chunks: dict[SessionKey, dict[int, Chunk]] = {}
    for record in scenario.records:
        if record.value == b"rubbish":
            continue
        message = parse(record, 1 << 20)
        if isinstance(message, Chunk):
            chunks.setdefault(message.key, {}).setdefault(message.sequence, message)
    texts = set()
    for key, by_sequence in chunks.items():
        cutter = SessionCutter(key, LIMITS.session.cutter, {}, None)
        cuts = []
        previous = -1
        for sequence, chunk in sorted(by_sequence.items()):
            missing = (previous + 1, sequence - 1) if sequence > previous + 1 else None
            cuts += cutter.add(
                chunk, decode(chunk.content_type, chunk.payload, LIMITS.session.audio), missing
            )
            previous = sequence
        for cut in [*cuts, *cutter.finish()]:
            if isinstance(cut, Cut) and cut.window:
                window = cut.window
                digest = hashlib.sha256(window.audio.tobytes()).hexdigest()[:12]
                text = f"{key.stream_id} {window.start_sample} {window.end_sample} {digest}"
                texts.add(
                    ("Transcript" if cut.track == "speech" else "Caption", key.stream_id, cut.channel, text)
                )
    return texts


async def play(
    scenario: Scenario,
    store: MemoryStore,
    engine: HashEngine,
    publisher: MemoryPublisher,
    faults: Faults,
    limits: PipelineLimits = LIMITS,
) -> int:
    """Run workers over the log until one has read it all and everything is committed and sent. Returns the restarts."""
    clock = asyncio.get_running_loop().time
    restarts = -1
    while True:
        restarts += 1
        pipeline = Pipeline(
            clock=clock, store=store, engine=engine, publisher=publisher, limits=limits, monitor=Silent()
        )
        feeding = asyncio.ensure_future(_feed(pipeline, scenario, store, clock))
        await asyncio.wait({feeding, pipeline.failed}, return_when=asyncio.FIRST_COMPLETED)
        failure = pipeline.failed.exception() if pipeline.failed.done() else feeding.exception()
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await pipeline.drain(0.0)
        if failure is None:
            return restarts
        if not isinstance(failure, Crash):
            raise failure


async def _feed(pipeline: Pipeline, scenario: Scenario, store: MemoryStore, clock: object) -> None:
    loop = asyncio.get_running_loop()
    total = len(scenario.records)
    position = await pipeline.assigned(TOPIC, 0, "sim", 0, total)
    ticker = asyncio.ensure_future(_tick(pipeline, scenario))
    try:
        for record in scenario.records[position:]:
            delay_s = scenario.arrival_s[record.offset] - loop.time()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            await pipeline.handle(record)
        deadline_s = loop.time() + 600
        while store.offsets.get((TOPIC, 0)) != total or store.unpublished:
            if ticker.done():
                ticker.result()
            assert loop.time() < deadline_s, (
                f"stuck at {store.offsets} of {total}, unsent {len(store.unpublished)}"
            )
            await asyncio.sleep(0.5)
    finally:
        ticker.cancel()
        await asyncio.gather(ticker, return_exceptions=True)


async def _tick(pipeline: Pipeline, scenario: Scenario) -> None:
    while True:
        await asyncio.sleep(0.2)
        now_s = asyncio.get_running_loop().time()
        written = sum(1 for at_s in scenario.arrival_s if at_s <= now_s)
        pipeline.at_end(TOPIC, 0, written)
        try:
            await pipeline.tick()
        except (AssertionError, Crash) as error:
            if not pipeline.failed.done():
                pipeline.failed.set_exception(error)
            return
