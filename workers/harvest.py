"""Takes windows that the model was not sure of back from the topic, as raw audio for the next round of DataFlux.

In: settings with the tenants' consent, a range of time. Out: WAV files and a list of them (`harvest.jsonl`, as
`model.dataflux.clips` reads it), and what was left out and why. Which windows: PostgreSQL tells; their audio: the chunk
topic, cut by the worker's own pipeline, as long as the topic keeps it. Invariants
- Without consent nothing is looked at. A tenant is named in `harvest_consent`; with "marked" only sessions whose every
  chunk carries the header `ce_consent: training` are taken, with "all" every session but those with a chunk that says
  otherwise.
- No transcript leaves. A window is left out when its text, or any text within 15 s of it on any channel, may hold
  personal data, when it was redacted, and when it cannot be checked.
- What was erased is neither read nor kept: the fences of `storage.erasure` hold here too, and recordings that were
  erased, whose tenant no longer consents, or whose time is over are deleted from the folder whenever it is opened.
- Nothing is written to the database.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model.dataflux import doubt, personal
from storage import erasure, harvest, replays
from storage.database import Database, opened
from storage.erasure import PartitionEnd
from storage.replays import ReplayStore, Run
from streams.errors import Fenced, Unavailable
from streams.messages import Message, Record, SessionKey, known_key
from streams.windows import Track, Window
from streams.wire import END_TYPE
from workers import kafka_log
from workers.harvest_folder import Folder
from workers.kafka_log import KafkaLog
from workers.pool import Analysis
from workers.replay import read_through
from workers.settings import Settings
from workers.telemetry import Telemetry

SOURCE, LICENCE = "harvest", "LicenseRef-customer-consented"  # as the data card says (model/train/cards)
HEADER, TRAINING = "ce_consent", b"training"
GUARD_SAMPLES = 15 * 16_000
SHORTEST_SAMPLES = 8_000
RUN_ID = "harvest"
Name = tuple[str, int, int, int]  # session, channel, start_sample, end_sample


@dataclass(frozen=True, slots=True)
class Asked:
    """At most `limit` windows per tenant that were stored in [since, until), the most doubtful; `below`: confidence."""

    out: Path
    since: datetime | None = None
    until: datetime | None = None
    below: float = 0.5
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Harvested:
    """`left_out` counts doubtful windows by reason; `deleted`: recordings that had to go; `known`: of earlier calls."""

    folder: str
    looked_at: int
    doubtful: int
    taken: int
    known: int
    seconds: float
    why: dict[str, int]
    left_out: dict[str, int]
    deleted: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One window that may be taken."""

    key: SessionKey
    channel: int
    start_sample: int
    end_sample: int
    why: tuple[str, ...]
    confidence: float | None
    language: str
    model: Mapping[str, str]

    @property
    def name(self) -> Name:
        return (self.key.session_id, self.channel, self.start_sample, self.end_sample)

    @property
    def file(self) -> str:
        """A name that tells nobody whose it is, and the same window always the same."""
        parts = (self.key.tenant_id, self.key.stream_id, *map(str, self.name))
        return hashlib.sha256(b"".join(b"%d:%s" % (len(p.encode()), p.encode()) for p in parts)).hexdigest()[
            :24
        ]

    @property
    def rank(self) -> tuple[int, float]:
        """Higher: more doubtful."""
        return len(self.why), -(self.confidence if self.confidence is not None else 0.0)


@dataclass
class Counts:
    """What happened on the way."""

    looked_at: int = 0
    doubtful: int = 0
    known: int = 0
    seconds: float = 0.0
    why: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


async def take(settings: Settings, asked: Asked) -> Harvested:
    """Harvest into a folder. Raises Unavailable; what was taken until then stays taken."""
    if settings.database_url is None:
        raise Unavailable("no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    counts = Counts()
    with Folder(asked.out) as folder:
        async with opened(settings.database_url) as database:
            deleted = await _delete(settings, database, folder)
            for tenant, consent in sorted(settings.harvest_consent.items()):
                found = await _candidates(database, tenant, asked, folder, counts)
                if found:
                    async with kafka_log.opened(settings) as log:
                        await _take_all(settings, database, log, folder, found, consent, counts)
    return Harvested(
        folder=str(asked.out),
        looked_at=counts.looked_at,
        doubtful=counts.doubtful,
        taken=sum(1 for line in folder.lines.values() if line["audio"] in folder.new),
        known=counts.known,
        seconds=round(counts.seconds, 1),
        why=dict(counts.why),
        left_out=dict(counts.left_out),
        deleted=deleted,
    )


class Catcher:
    """Stands where the engine stands: keeps the audio of wanted windows and answers nothing."""

    def __init__(self, wanted: Sequence[Candidate]) -> None:
        self._wanted = {one.name for one in wanted}
        self.caught: dict[Name, npt.NDArray[np.int16]] = {}
        self.marks: dict[str, set[bytes | None]] = {}  # per session: what its chunks say of consent

    async def analyse(
        self, window: Window, tasks: tuple[str, ...], *, deadline_s: float, interactive: bool
    ) -> Analysis:
        name = (window.key.session_id, window.channel, window.start_sample, window.end_sample)
        if window.track is Track.SPEECH and name in self._wanted:
            self.caught[name] = np.array(window.audio, np.int16)
        return Analysis((), "", "")

    def look(self, record: Record) -> None:
        """Note what a record says of consent; the end of a session says nothing."""
        key = known_key(record)
        headers = {name.lower(): value for name, value in record.headers}
        if key is not None and headers.get("ce_type") != END_TYPE.encode():
            self.marks.setdefault(key.session_id, set()).add(headers.get(HEADER))

    def allowed(self, session: str, consent: str) -> bool:
        """Whether every chunk of a session lets it be taken."""
        said = self.marks.get(session, set())
        return said == {TRAINING} if consent == "marked" else said <= {None, TRAINING}


class Nobody:
    """Publishes nothing: a harvest has no results."""

    async def publish(self, messages: Sequence[Message]) -> None:
        assert not messages


async def _candidates(
    database: Database, tenant: str, asked: Asked, folder: Folder, counts: Counts
) -> list[Candidate]:
    """The most doubtful windows that nothing personal is found in or near."""
    since = asked.since or datetime(1970, 1, 1, tzinfo=UTC)
    until = asked.until or datetime.now(UTC)
    best: list[tuple[tuple[int, float], int, Candidate]] = []
    async with database.transaction() as connection:
        async for row in harvest.finals(connection, tenant, since, until):
            counts.looked_at += 1
            why = doubt.reasons(_seen(row), asked.below)
            if not why:
                continue
            counts.doubtful += 1
            if refused := _refused(row):
                counts.left_out[refused] += 1
                continue
            one = _candidate(tenant, row, why)
            if one.file in folder.lines:
                counts.known += 1
                continue
            heapq.heappush(best, (one.rank, -row["id"], one))
            if len(best) > asked.limit:
                heapq.heappop(best)
                counts.left_out["over the limit"] += 1
        found = []
        for *_, one in sorted(best, key=lambda entry: entry[:2], reverse=True):
            around = await harvest.texts_around(
                connection, one.key, one.start_sample - GUARD_SAMPLES, one.end_sample + GUARD_SAMPLES
            )
            if any(personal.found(text) for text in around):
                counts.left_out["personal data nearby"] += 1
            else:
                found.append(one)
    return found


def _seen(row: Mapping[str, Any]) -> doubt.Seen:
    words = row["words"] if row["timing_source"] == "ctc" and row["words"] else ()
    heard = tuple(word["confidence"] for word in words if word.get("confidence") is not None)
    return doubt.Seen(row["text"], row["confidence"], heard, tuple(row["others"]))


def _refused(row: Mapping[str, Any]) -> str | None:
    """Why a window cannot be taken, whatever its neighbours."""
    if row["redacted"]:
        return "redacted"
    if not row["text"].strip() or row["language"] not in personal.LANGUAGES:
        return "cannot be checked"
    if any(personal.found(text) for text in (row["text"], *row["others"])):
        return "personal data"
    return "too short" if row["end_sample"] - row["start_sample"] < SHORTEST_SAMPLES else None


def _candidate(tenant: str, row: Mapping[str, Any], why: Sequence[str]) -> Candidate:
    return Candidate(
        key=SessionKey(tenant, row["stream_id"], row["session_id"]),
        channel=row["channel"],
        start_sample=row["start_sample"],
        end_sample=row["end_sample"],
        why=tuple(why),
        confidence=row["confidence"],
        language=row["language"],
        model=row["model"],
    )


async def _take_all(
    settings: Settings,
    database: Database,
    log: KafkaLog,
    folder: Folder,
    found: Sequence[Candidate],
    consent: str,
    counts: Counts,
) -> None:
    """Read the topic once per stream that has candidates."""
    groups: dict[tuple[str, str, int], tuple[list[Candidate], int]] = {}
    async with database.transaction() as connection:
        for one in found:
            place = await harvest.place_of(connection, one.key)
            if place is None or place[0] != settings.topics.chunks:
                counts.left_out["session forgotten"] += 1
                continue
            mine, last = groups.get((one.key.stream_id, *place[:2]), ([], 0))
            groups[one.key.stream_id, place[0], place[1]] = ([*mine, one], max(last, place[2]))
    ends = {end.partition: end for end in await log.ends(settings.topics.chunks)}
    for (stream, _, partition), (mine, last) in groups.items():
        tenant = mine[0].key.tenant_id
        end = ends.get(partition)
        run = None if end is None else await _run(database, tenant, stream, end, last)
        if run is None or run.first_offset >= run.end_offset:
            counts.left_out["no longer on the topic"] += len(mine)
            continue
        catcher = Catcher(mine)
        store = ReplayStore(database, run, only=frozenset())
        quiet = settings.model_copy(update={"shed_scenes_after_s": None})
        try:
            await read_through(quiet, log, run, store, catcher, Nobody(), Telemetry.off(), catcher.look)
            if await _first_allowed(database, run) > run.first_offset:
                raise Fenced("erased meanwhile")
        except Fenced:
            counts.left_out["erased"] += len(mine)
            continue
        _keep(settings, folder, mine, catcher, consent, run, counts)


async def _run(database: Database, tenant: str, stream: str, end: PartitionEnd, last: int) -> Run:
    """The records of a stream that may be read: from its fence on, up to the last that was analysed."""
    async with database.transaction() as connection:
        generation = await replays.generation(connection, end.topic, end.partition)
    place = (end.topic, end.partition, generation)
    run = Run(tenant, RUN_ID, stream, None, *place, end.earliest, min(end.latest, last + 1), "")
    first = max(end.earliest, await _first_allowed(database, run))
    return Run(tenant, RUN_ID, stream, None, *place, first, run.end_offset, "")


async def _first_allowed(database: Database, run: Run) -> int:
    """The offset below which the records of the run's stream are erased."""
    pair = (run.tenant_id, run.stream_id)
    async with database.transaction() as connection:
        ends = await erasure.ends_of(connection, run.topic, run.partition, run.generation, [pair])
    return ends[pair]


def _keep(
    settings: Settings,
    folder: Folder,
    mine: Sequence[Candidate],
    catcher: Catcher,
    consent: str,
    run: Run,
    counts: Counts,
) -> None:
    now = datetime.now(UTC)
    expires = now + timedelta(days=settings.harvest_keep_days)
    for one in mine:
        audio = catcher.caught.get(one.name)
        if not catcher.allowed(one.key.session_id, consent):
            marked = one.key.session_id in catcher.marks
            counts.left_out["no consent for the session" if marked else "no longer on the topic"] += 1
        elif audio is None:
            counts.left_out["no longer on the topic"] += (
                1  # or what is left of the session is cut differently
            )
        else:
            folder.add(one.file, audio, _line(one, run, consent, now, expires))
            counts.seconds += len(audio) / 16_000
            counts.why.update(one.why)
    folder.save()


def _line(one: Candidate, run: Run, consent: str, now: datetime, expires: datetime) -> dict[str, Any]:
    """What is written of a recording: where it is from, by hashes; no text, no name."""
    return {
        "licence": LICENCE,
        "source": SOURCE,
        "language": one.language,
        "expires": expires.isoformat(),
        "harvested": now.isoformat(),
        "consent": consent,
        "tenant": erasure.digest(one.key.tenant_id),
        "stream": erasure.digest(one.key.tenant_id, one.key.stream_id),
        "session": hashlib.sha256(one.key.session_id.encode()).hexdigest()[:16],
        "channel": one.channel,
        "start_sample": one.start_sample,
        "end_sample": one.end_sample,
        "topic": run.topic,
        "partition": run.partition,
        "generation": run.generation,
        "end_offset": run.end_offset,
        "why": list(one.why),
        "confidence": one.confidence,
        "model": dict(one.model),
    }


async def _delete(settings: Settings, database: Database, folder: Folder) -> int:
    """Delete what may not be kept: expired, without consent, erased. How many recordings."""
    consenting = {erasure.digest(tenant) for tenant in settings.harvest_consent}
    now = datetime.now(UTC)
    scopes = {line[name] for line in folder.lines.values() for name in ("tenant", "stream")}
    async with database.transaction() as connection:
        fences = await harvest.fences(connection, sorted(scopes))
    gone = [
        file
        for file, line in folder.lines.items()
        if line["tenant"] not in consenting
        or datetime.fromisoformat(line["expires"]) <= now
        or any(_erased(line, fence) for fence in fences)
    ]
    for file in gone:
        folder.drop(file)
    folder.save()
    return len(gone)


def _erased(line: Mapping[str, Any], fence: harvest.Fence) -> bool:
    """Whether a recording is of records below a fence."""
    if fence.scope not in (line["tenant"], line["stream"]):
        return False
    if (fence.topic, fence.partition) != (line["topic"], line["partition"]):
        return False
    return (fence.generation, fence.end_offset) >= (line["generation"], line["end_offset"])
