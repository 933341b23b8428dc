"""The load of `eureka bench e2e`: a tape of real speech with the pauses of a call, and one process that sends N of it.

In: the demo's recordings, a seed; or, as `python -m workers.bench_load`, a `Plan` as JSON on standard input and the
broker in the settings. Out: `Tape`, `Plan`; or two lines of JSON on standard output: when the first stream begins, and
a `SenderReport` once the broker has everything. It knows no results. Invariant: what is due when is a pure function of
the plan, so whoever measures compares with the schedule, and a sender that is late makes a result later, not earlier.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streams.audio import G711_RATE_HZ, Pcm
from streams.encode import encode
from streams.messages import SessionKey, chunk_headers, end_headers
from workers.demo_script import Play
from workers.demo_tally import SentLog
from workers.producer import open_producer
from workers.recordings import RATE_HZ, Recordings, Samples, read_audio
from workers.settings import Settings, load_settings
from workers.telemetry import new_traceparent

SOURCE = "/eureka/bench"
TAPE_S = 600  # streams begin anywhere in it
SPEECH_SHARE = 0.45  # of one side of a call
SHORTEST_PAUSE_S = 0.7
LINE_NOISE = 15  # int16, in the pauses
LEAD_S = 0.5  # from saying when it begins to beginning


@dataclass(frozen=True, eq=False)
class Tape:
    """What the streams play parts of. `audio`: int16 [n] at 16 kHz; `codes`: the same as µ-law at 8 kHz.

    `speech`: int64 [utterances, 2], the samples where each begins and ends.
    """

    audio: Samples
    codes: bytes
    content_type: str
    speech: npt.NDArray[np.int64]

    def speech_share(self, start: int, end: int) -> float:
        """The part of [start, end) that lies in utterances, their own short pauses included."""
        inside = np.minimum(self.speech[:, 1], end) - np.maximum(self.speech[:, 0], start)
        return float(np.maximum(inside, 0).sum() / max(1, end - start))


@dataclass(frozen=True)
class Plan:
    """Streams of `seconds`: number `i` begins `starts_s[i]` after the first, at chunk `chunks[i]` of the tape."""

    session_id: str
    seconds: float
    chunk_ms: int
    starts_s: Sequence[float]
    chunks: Sequence[int]
    tape: str
    content_type: str

    @property
    def streams(self) -> int:
        """How many there are."""
        return len(self.starts_s)

    @property
    def chunks_each(self) -> int:
        """Chunks of one stream, its end not among them."""
        return round(self.seconds * 1000 / self.chunk_ms)

    def stream_id(self, number: int) -> str:
        """Of this run alone."""
        return "%s-%d" % (self.session_id, number)

    def place(self, number: int) -> tuple[int, int]:
        """Where on the tape the stream begins and ends, in samples at 16 kHz."""
        chunk_samples = RATE_HZ * self.chunk_ms // 1000
        return self.chunks[number] * chunk_samples, (self.chunks[number] + self.chunks_each) * chunk_samples

    def records_due(self, after_s: float) -> int:
        """How many records are due `after_s` after the first stream's begin: a chunk is, when it has been spoken."""
        spoken = (after_s - np.asarray(self.starts_s)) * 1000 // self.chunk_ms
        chunks = np.clip(spoken, 0, self.chunks_each)
        return int(chunks.sum() + (chunks == self.chunks_each).sum())


@dataclass(frozen=True)
class SenderReport:
    """What was sent. `late_ms`: from due to handed to the producer; `ack_ms`: from due to the broker's answer."""

    records: int
    late_ms: dict[str, float]
    ack_ms: dict[str, float]


def lay_tape(recordings: Recordings, seconds: float, chunk_ms: int, seed: int) -> Tape:
    """Utterances in a seeded order with seeded pauses, `TAPE_S` and then as long as a stream of `seconds`."""
    rng = np.random.default_rng(seed)
    voices = [read_audio(Path(item.audio)) for item in recordings.speech]
    mean_s = float(np.mean([len(voice) for voice in voices])) / RATE_HZ
    pause_s = max(0.0, mean_s * (1 / SPEECH_SHARE - 1) - SHORTEST_PAUSE_S)
    wanted = round((TAPE_S + seconds) * 1000 / chunk_ms) * chunk_ms * RATE_HZ // 1000
    pieces: list[Samples] = []
    speech: list[tuple[int, int]] = []
    position = 0
    while position < wanted:
        for number in rng.permutation(len(voices)):
            pause = round((SHORTEST_PAUSE_S + rng.exponential(pause_s)) * RATE_HZ)
            pieces += [voices[number], rng.normal(0, LINE_NOISE, pause).astype(np.int16)]
            speech.append((position, position + len(voices[number])))
            position += len(voices[number]) + pause
    audio = np.concatenate(pieces)[:wanted]
    encoded = encode(Pcm(audio[None], RATE_HZ), "audio/PCMU", chunk_ms)
    codes = b"".join(chunk.payload for chunk in encoded.chunks)
    return Tape(audio, codes, encoded.content_type, np.asarray(speech, np.int64))


def plan_of(tape: Tape, path: Path, session_id: str, streams: int, seconds: float, chunk_ms: int) -> Plan:
    """Begins spread over the time between two scenes, or a quarter of a short run, and evenly over the tape."""
    stagger_s = min(10.0, seconds / 4)
    places = TAPE_S * 1000 // chunk_ms
    return Plan(
        session_id=session_id,
        seconds=seconds,
        chunk_ms=chunk_ms,
        starts_s=[stagger_s * number / streams for number in range(streams)],
        chunks=[places * number // streams for number in range(streams)],
        tape=str(path),
        content_type=tape.content_type,
    )


def plays_of(plan: Plan, tape: Tape) -> list[Play]:
    """The streams as the demo's judge knows them; the audio of each is a view of the tape."""
    plays = []
    for number in range(plan.streams):
        start, end = plan.place(number)
        audio = tape.audio[None, start:end]
        plays.append(Play(plan.stream_id(number), Path(plan.tape), plan.content_type, audio))
    return plays


def schedule(plan: Plan, started_s: float) -> dict[str, SentLog]:
    """By stream id, when each chunk is due to leave, on the clock of `started_s`."""
    numbers = np.arange(1, plan.chunks_each + 1)
    ends = (numbers * (RATE_HZ * plan.chunk_ms // 1000)).tolist()
    spoken_s = numbers * plan.chunk_ms / 1000
    return {
        plan.stream_id(number): SentLog(ends, (started_s + start_s + spoken_s).tolist())
        for number, start_s in enumerate(plan.starts_s)
    }


async def send(settings: Settings, plan: Plan, codes: bytes) -> SenderReport:
    """Send all streams of the plan at their pace; say on standard output when it begins. Raises KafkaError."""
    producer = await open_producer(settings, "eureka-bench")
    try:
        await producer.partitions_for(settings.topics.chunks)
        started_s = time.monotonic() + LEAD_S
        print(json.dumps({"started_s": started_s}), flush=True)
        late: list[float] = []
        acked: list[float] = []
        streams = (
            _stream(producer, settings, plan, codes, number, started_s, late, acked)
            for number in range(plan.streams)
        )
        await asyncio.gather(*streams)
        return SenderReport(len(acked), _spread_ms(late), _spread_ms(acked))
    finally:
        await producer.stop()


async def _stream(
    producer: AIOKafkaProducer,
    settings: Settings,
    plan: Plan,
    codes: bytes,
    number: int,
    started_s: float,
    late: list[float],
    acked: list[float],
) -> None:
    """One stream, each chunk when its last sample would have been spoken, then the end of the session."""
    key = SessionKey(settings.tenant_default, plan.stream_id(number), plan.session_id)
    chunk_samples = G711_RATE_HZ * plan.chunk_ms // 1000  # as many bytes
    trace = new_traceparent()
    acks: list[asyncio.Future[object]] = []

    async def hand_on(payload: bytes, headers: list[tuple[str, bytes]], due_s: float) -> None:
        ack = await producer.send(
            settings.topics.chunks, value=payload, key=key.stream_id.encode(), headers=headers
        )
        late.append(time.monotonic() - due_s)
        ack.add_done_callback(lambda _: acked.append(time.monotonic() - due_s))
        acks.append(ack)

    due_s = started_s
    for sequence in range(plan.chunks_each):
        due_s = started_s + plan.starts_s[number] + (sequence + 1) * plan.chunk_ms / 1000
        await asyncio.sleep(due_s - time.monotonic())
        place = (plan.chunks[number] + sequence) * chunk_samples
        headers = chunk_headers(
            key,
            sequence,
            sequence * chunk_samples,
            plan.content_type,
            source=SOURCE,
            captured_at=datetime.now(UTC),
            traceparent=trace,
        )
        await hand_on(codes[place : place + chunk_samples], headers, due_s)
    headers = end_headers(key, plan.chunks_each, source=SOURCE, traceparent=trace)
    await hand_on(b"", headers, due_s)
    await asyncio.gather(*acks)


def _spread_ms(values_s: Sequence[float]) -> dict[str, float]:
    p50, p95, most = np.percentile(values_s, [50, 95, 100]) * 1000
    return {"p50": round(float(p50), 1), "p95": round(float(p95), 1), "max": round(float(most), 1)}


def main() -> int:
    """The sender process; a broker that goes away ends it with one line on standard error and status 1."""
    plan = Plan(**json.load(sys.stdin))
    try:
        report = asyncio.run(send(load_settings(), plan, Path(plan.tape).read_bytes()))
    except KafkaError as error:
        print("not sent: %s" % type(error).__name__, file=sys.stderr)
        return 1
    print(json.dumps(asdict(report)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
