"""Judges a demo: what arrived on the topics against what stands in Postgres and what was sent. Pure arithmetic.

In: the `Play`s and when their samples were sent, messages with their time of receipt, rows and positions as
read from Postgres. Out: a `Summary`. It knows no Kafka and no SQL, and asks neither side about the other.
Invariant: a figure that cannot be had is None; `fine` is true only when every sample sent is settled on every
track and both sides hold the same ids once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workers.demo_script import Play
from workers.recordings import RATE_HZ, Samples

FRAME_SAMPLES = RATE_HZ // 50
SPEECH_FLOOR = 10 ** (-35 / 20)  # of the loudest frame of the window
SAMPLES_PER_MS = RATE_HZ // 1000
TRACKS = ("speech", "scene")
TABLES = {
    "transcript": "transcripts",
    "caption": "captions",
    "event": "events",
    "alert": "alerts",
    "deadletter": "dead_letters",
}


@dataclass(frozen=True)
class Received:
    """One message as it came from a topic, `at_s` on the monotonic clock."""

    kind: str
    ce_id: str
    fields: Mapping[str, Any]
    at_s: float


@dataclass(frozen=True)
class SentLog:
    """When samples left: the chunk that ends at `end_samples[i]` (16 kHz) was handed on at `at_s[i]`."""

    end_samples: Sequence[int]
    at_s: Sequence[float]

    def when_s(self, sample: int) -> float | None:
        """When the chunk holding `sample` was handed to the producer; None when it never was."""
        index = int(np.searchsorted(np.asarray(self.end_samples), sample, side="right"))
        return self.at_s[index] if index < len(self.at_s) else None


@dataclass(frozen=True)
class Stored:
    """What Postgres holds of this demo's streams."""

    ids: Mapping[str, Sequence[str]]  # kind → ce_ids
    unpublished: Mapping[str, int]  # kind → rows without published_at
    positions: Mapping[tuple[str, int, str], int]  # (stream, channel, track) → sample
    gaps: int
    duplicates: int
    ended: frozenset[str]  # streams whose session end is settled


@dataclass(frozen=True)
class Summary:
    """The last line of `eureka demo --json`, and whether the run was without fault."""

    streams: int
    audio_s: float
    windows: int
    rows: Mapping[str, int]
    messages: Mapping[str, int]
    wer: float | None
    wer_caller: float | None
    latency_ms: Mapping[str, int | None]
    missing: int
    duplicates: int
    unpublished: int
    problems: tuple[str, ...]

    @property
    def fine(self) -> bool:
        """Nothing missing, duplicated or unpublished."""
        return not self.problems


def settled(plays: Sequence[Play], stored: Stored, received: Sequence[Received]) -> bool:
    """Whether there is nothing left to wait for."""
    return all(play.stream_id in stored.ended for play in plays) and not any(
        problems(plays, stored, received).values()
    )


def summarise(
    plays: Sequence[Play],
    sent: Mapping[str, SentLog],
    received: Sequence[Received],
    stored: Stored,
    rates: Mapping[str, float | None],
) -> Summary:
    """All figures. `rates`: word error rate by voice (`prompt`, `caller`), made by `model.evaluate`."""
    found = problems(plays, stored, received)
    latencies = latencies_ms(plays, sent, received)
    dead_windows = sum(
        1 for message in received if message.kind == "deadletter" and message.fields.get("track")
    )
    return Summary(
        streams=len(plays),
        audio_s=round(sum(play.seconds * len(play.audio) for play in plays), 1),
        windows=len(stored.ids["transcript"]) + len(stored.ids["caption"]) + dead_windows,
        rows={TABLES[kind]: len(ids) for kind, ids in stored.ids.items()},
        messages={TABLES[kind]: len([m for m in received if m.kind == kind]) for kind in TABLES},
        wer=rates.get("prompt"),
        wer_caller=rates.get("caller"),
        latency_ms={"p50": _percentile(latencies, 50), "p95": _percentile(latencies, 95)},
        missing=len(found["missing"]),
        duplicates=len(found["duplicates"]),
        unpublished=sum(stored.unpublished.values()),
        problems=tuple(line for lines in found.values() for line in lines),
    )


def problems(plays: Sequence[Play], stored: Stored, received: Sequence[Received]) -> dict[str, list[str]]:
    """`missing`, `duplicates`, `unpublished`: one line for each thing that is wrong."""
    missing, duplicates = [], []
    for kind in TABLES:
        on_topic = Counter(message.ce_id for message in received if message.kind == kind)
        in_table = Counter(stored.ids[kind])
        missing += ["row without message: " + ce_id for ce_id in in_table.keys() - on_topic.keys()]
        missing += ["message without row: " + ce_id for ce_id in on_topic.keys() - in_table.keys()]
        duplicates += ["message twice: " + ce_id for ce_id, count in on_topic.items() if count > 1]
        duplicates += ["row twice: " + ce_id for ce_id, count in in_table.items() if count > 1]
    missing += _uncovered(plays, stored)
    if stored.gaps:
        missing.append("%d gaps were recorded in audio that was sent whole" % stored.gaps)
    if stored.duplicates:
        duplicates.append("%d chunks arrived twice" % stored.duplicates)
    unpublished = [
        "%d %s not published" % (count, TABLES[kind]) for kind, count in stored.unpublished.items() if count
    ]
    return {"missing": missing, "duplicates": duplicates, "unpublished": unpublished}


def _uncovered(plays: Sequence[Play], stored: Stored) -> list[str]:
    """Audio that was sent but that some track has not settled."""
    lines = []
    for play in plays:
        for channel in range(len(play.audio)):
            for track in TRACKS:
                sample = stored.positions.get((play.stream_id, channel, track), 0)
                # A resampler may round a stream's last sample away.
                if sample < play.audio.shape[1] - 1:
                    left_s = (play.audio.shape[1] - sample) / RATE_HZ
                    lines.append(
                        "%s channel %d, %s: %.2f s not settled" % (play.stream_id, channel, track, left_s)
                    )
    return lines


def latencies_ms(
    plays: Sequence[Play], sent: Mapping[str, SentLog], received: Sequence[Received]
) -> list[float]:
    """Per final with words: from sending the last sample of its speech to receiving it from the topic."""
    known = {play.stream_id: play for play in plays}
    latencies = []
    for message in received:
        play = known.get(str(message.fields.get("stream_id")))
        if message.kind != "transcript" or play is None or not message.fields["text"]:
            continue
        start = int(message.fields["start_ms"]) * SAMPLES_PER_MS
        end = int(message.fields["end_ms"]) * SAMPLES_PER_MS
        last = last_loud_sample(play.audio[int(message.fields["channel"])], start, end)
        when_s = sent[play.stream_id].when_s(last)
        if when_s is not None:
            latencies.append((message.at_s - when_s) * 1000)
    return latencies


def last_loud_sample(audio: Samples, start: int, end: int) -> int:
    """Where the sound in [start, end) ends: the end of its last 20 ms frame within 35 dB of the loudest one."""
    frames = audio[start:end][: (end - start) // FRAME_SAMPLES * FRAME_SAMPLES].astype(np.float64)
    frames = frames[: len(frames) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    if not len(frames):
        return max(start, end - 1)
    rms = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(rms >= rms.max() * SPEECH_FLOOR)
    return start + (int(loud[-1]) + 1) * FRAME_SAMPLES - 1


def spoken_and_heard(
    plays: Sequence[Play], received: Sequence[Received], voice: str
) -> list[tuple[str, str]]:
    """(reference, hypothesis) per channel of `voice`; the whole text of a channel counts, inventions too."""
    pairs = []
    for play in plays:
        for channel in range(len(play.audio)):
            known = [u for u in play.utterances if u.channel == channel]
            if not known or any(utterance.voice != voice for utterance in known):
                continue
            finals = [
                message.fields
                for message in received
                if message.kind == "transcript"
                and message.fields["stream_id"] == play.stream_id
                and message.fields["channel"] == channel
            ]
            heard = " ".join(str(f["text"]) for f in sorted(finals, key=lambda f: int(f["start_ms"])))
            pairs.append((" ".join(u.text for u in known), heard))
    return pairs


def _percentile(values: Sequence[float], percent: int) -> int | None:
    return round(float(np.percentile(values, percent))) if values else None
