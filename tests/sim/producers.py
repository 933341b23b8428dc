"""What the producers wrote: a seeded log of several partitions, and what has to become of every record of it.

In: a seed. Out: `Input`: logs, the sessions behind them and the expected fate of each record, which is known because
the producer here decided it. Knows no pipeline. Invariant: fates depend on the log alone, whatever the workers do: what
is reordered comes back well within the reorder wait, what is late comes well after it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from streams.messages import Record, SessionKey, chunk_headers, end_headers
from tests.sim.limits import LIMITS, TOPIC
from tests.sim.scenario import CONTENT, speech_like

RATE = 16_000
EPOCH_S = 10_000  # record stamps count from here, so that a clock an hour behind is still positive
ELSEWHERE = 99  # a partition that some streams are bound to and nobody reads
BANK_S = 120
Headers = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Written:
    """One record of a log; `fate` is "placed", "end", "duplicate" or the reason of its dead letter.

    `chunk` names session and sequence of a chunk.
    """

    record: Record
    arrival_s: float
    fate: str
    chunk: tuple[SessionKey, int] | None = None


@dataclass
class Spoken:
    """A session as its producer meant it: int16 `audio` [channels, n] in chunks of `size` samples."""

    key: SessionKey
    partition: int
    audio: npt.NDArray[np.int16]
    size: int
    roles: tuple[str, ...] | None
    ended: bool
    foreign: bool  # its stream belongs to another partition
    skew_s: float
    unheard: dict[int, str] = field(default_factory=dict)  # sequence → lost, late, or why it is refused
    offsets: dict[int, int] = field(default_factory=dict)  # sequence → offset of the copy that counts
    ends: dict[tuple[int, str], set[int]] = field(
        default_factory=dict
    )  # channel, track → runs ended to make room
    cuts: dict[tuple[int, str], set[int]] = field(default_factory=dict)  # … and were cut before that

    @property
    def total(self) -> int:
        """Samples of the session, whether they were heard or not."""
        return int(self.audio.shape[1])

    @property
    def chunks(self) -> int:
        """Number of chunks, the lost ones included."""
        return -(-self.total // self.size)


@dataclass
class Input:
    """Everything that producers wrote, and where streams were bound before they did."""

    logs: list[list[Written]]
    sessions: list[Spoken]
    bound: dict[tuple[str, str], int]

    @property
    def end_s(self) -> float:
        """When the last record arrives."""
        return max(written.arrival_s for log in self.logs for written in log)


@dataclass(frozen=True)
class _Planned:
    """A record before it has an offset. `sequence` where it is a chunk."""

    at_s: float
    key: bytes | None
    value: bytes
    headers: Headers
    fate: str
    session: Spoken | None = None
    sequence: int | None = None


def write_input(seed: int) -> Input:
    """The logs of one seed."""
    rng = random.Random(f"input {seed}")
    partitions = rng.choice([2, 3, 3, 4])
    planned: list[list[_Planned]] = [[] for _ in range(partitions)]
    written = Input([], [], {})
    for number in range(rng.choice([3, 4, 5])):
        tenant = rng.choice(["default", "default", "acme"])
        partition, foreign = rng.randrange(partitions), rng.random() < 0.06
        starts_s = rng.uniform(0, 3)
        for take in range(rng.choice([1, 1, 2])):
            key = SessionKey(tenant, f"s{number}", f"{seed}-{number}-{take}")
            session = _speak(rng, key, partition, foreign)
            written.sessions.append(session)
            planned[partition] += _plan(rng, session, starts_s)
            starts_s += session.total / RATE + rng.uniform(2, 4)
        if foreign:
            written.bound[tenant, f"s{number}"] = ELSEWHERE
    for records in planned:
        last_s = max((p.at_s for p in records), default=0.0)
        records += [_rubbish(rng, rng.uniform(0, last_s)) for _ in range(rng.choice([0, 1, 2]))]
    lead_s = rng.choice([0.0, 0.0, 5.0, 60.0])  # so much was written before anybody read
    for partition, records in enumerate(planned):
        written.logs.append(_log(partition, records, lead_s))
    return written


@cache
def _bank() -> npt.NDArray[np.int16]:
    """Two minutes of voices and pauses that every session takes its audio from."""
    return np.ascontiguousarray(speech_like(np.random.default_rng(1), BANK_S, 1)[:, 0])


def _speak(rng: random.Random, key: SessionKey, partition: int, foreign: bool) -> Spoken:
    channels, samples = rng.choice([1, 1, 2]), int(rng.uniform(2.0, 12.0) * RATE)
    starts = [rng.randrange(BANK_S * RATE - samples) for _ in range(channels)]
    return Spoken(
        key=key,
        partition=partition,
        audio=np.stack([_bank()[start : start + samples] for start in starts]),
        size=rng.choice([4000, 6400, 8000]),
        roles=rng.choice([None, ("agent", "customer")[:channels]]),
        ended=rng.random() < 0.8,
        foreign=foreign,
        skew_s=rng.choice([0.0, 0.0, 3600.0, -3600.0, 1.5]),
    )


def _plan(rng: random.Random, session: Spoken, starts_s: float) -> list[_Planned]:
    """The records of a session: chunks in time, lost, late or broken, copies, and the end."""
    planned: list[_Planned] = []
    special = -2
    for sequence in range(session.chunks):
        at_s = starts_s + (sequence + 1) * session.size / RATE
        rest_s = (session.chunks - sequence) * session.size / RATE
        kind = "placed"
        if special + 1 < sequence < session.chunks - 1 and rng.random() < 0.08:
            kind = rng.choice(["lost", "codec", "truncated", *(["late"] if rest_s > 6 else [])])
            special, session.unheard[sequence] = sequence, kind
        if kind == "lost":
            continue
        if kind == "late":
            at_s += rng.uniform(3.7, 4.5)  # by then a record of the session has shown that the wait is over
        elif rng.random() < 0.1:
            at_s += rng.uniform(0.05, 0.5)
        chunk = _chunk(session, sequence, kind, at_s)
        planned.append(chunk)
        if kind == "placed" and rng.random() < 0.06:
            planned.append(_again(chunk, at_s + rng.uniform(0.001, 2.0)))
    end_s = starts_s + session.total / RATE + rng.uniform(0.7, 1.2) + session.size / RATE
    if session.ended:
        end = end_headers(session.key, session.chunks, source="sim")
        record = _Planned(end_s, session.key.stream_id.encode(), b"", end, "end", session)
        planned.append(record)
        if rng.random() < 0.2:
            planned.append(_again(record, end_s + rng.uniform(0.001, 3.0)))
        if rng.random() < 0.2:
            planned.append(_chunk(session, session.chunks + 1, "after_end", end_s + rng.uniform(0.01, 3.0)))
    return [_moved(p) for p in planned] if session.foreign else planned


def _chunk(session: Spoken, sequence: int, kind: str, at_s: float) -> _Planned:
    start = sequence * session.size
    samples = session.audio[:, start : start + session.size]
    value = samples.T.astype("<i2").tobytes() or bytes(64)
    content = CONTENT % len(session.audio)
    if kind == "truncated":
        value = value[:-1]
    if kind == "codec":
        content = "audio/x-unheard-of"
    headers = chunk_headers(session.key, sequence, start, content, source="sim", roles=session.roles)
    return _Planned(at_s, session.key.stream_id.encode(), value, headers, kind, session, sequence)


def _again(first: _Planned, at_s: float) -> _Planned:
    return _Planned(at_s, first.key, first.value, first.headers, "duplicate", first.session, first.sequence)


def _moved(planned: _Planned) -> _Planned:
    """The same record of a stream that lives elsewhere."""
    return replace(planned, fate="wrong_partition")


def _rubbish(rng: random.Random, at_s: float) -> _Planned:
    """A record that is no message of ours."""
    good = dict(chunk_headers(SessionKey("default", "x", "y"), 0, 0, CONTENT % 1, source="sim"))
    changes: dict[str, tuple[dict[str, bytes], bytes]] = {
        "missing_header": ({"ce_type": b"audio.chunk.v1"}, b"rubbish"),
        "schema": (good | {"ce_type": b"cart.checkout.v1"}, bytes(64)),
        "unsupported_version": (good | {"ce_type": b"audio.chunk.v9"}, bytes(64)),
        "too_large": (good, bytes(LIMITS.max_chunk_bytes + 1)),
        "truncated": (good, b""),
    }
    reason = rng.choice(sorted(changes))
    headers, value = changes[reason]
    return _Planned(at_s, b"x", value, [*headers.items()], reason)


def _log(partition: int, records: list[_Planned], lead_s: float) -> list[Written]:
    log: list[Written] = []
    for offset, planned in enumerate(sorted(records, key=lambda p: p.at_s)):
        session = planned.session
        stamp_s = EPOCH_S + planned.at_s + (session.skew_s if session else 0.0)
        record = Record(
            TOPIC, partition, offset, planned.key, planned.value, tuple(planned.headers), int(stamp_s * 1000)
        )
        chunk = None if session is None or planned.sequence is None else (session.key, planned.sequence)
        log.append(Written(record, max(0.0, planned.at_s - lead_s), planned.fate, chunk))
        if session is not None and planned.sequence is not None and planned.fate == "placed":
            session.offsets[planned.sequence] = offset
    return log
