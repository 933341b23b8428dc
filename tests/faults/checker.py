"""The independent checker: reads what a run left behind, by plain SQL and a plain Kafka consumer, and judges it.

In: what must be there (`tests.faults.expect`), a database, a broker. Out: a `Verdict`, whose every figure must be
nought but those that only count. It shares no code with `storage` and none with the publisher. It looks at the rows
twice: against the expected ones, one by one; and, without those, against the audio that was sent: whose it is, which
samples, covered once and without a hole.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.expect import Expected, Row
from tests.faults.mark import digest

SCENE_MIN_SAMPLES: Final = (
    16_000  # less than that, at the end of a run or before the next grid line, has no caption
)
SCENE_HOP_SAMPLES: Final = 160_000
OUTPUTS: Final = ("transcripts", "captions", "events", "alerts", "deadletters")
_TOLD = re.compile(r"(\w+) voice (\d+) samples (\d+) to (\d+) of ([0-9a-f]+)")
_PLACE = "ce_id, tenant_id, stream_id, session_id, channel, start_sample, end_sample"
RESULTS: Final = {
    "transcript": f"SELECT {_PLACE}, text FROM transcripts",
    "caption": f"SELECT {_PLACE}, text FROM captions",
    "event": f"SELECT {_PLACE}, event_type, label, value FROM events",
}


@dataclass
class Facts:
    """What is there: every row of every table of interest, every message of every output topic."""

    rows: list[tuple[str, Row]] = field(default_factory=list)  # id, row
    dead: list[tuple[Any, ...]] = field(default_factory=list)
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[tuple[Any, ...]] = field(default_factory=list)
    ended: set[tuple[str, str, str]] = field(default_factory=set)
    stored: dict[int, int | None] = field(default_factory=dict)  # partition → next offset
    committed: dict[int, int | None] = field(default_factory=dict)  # the same, as Kafka knows it
    ends: dict[int, int] = field(default_factory=dict)
    unpublished: int = 0
    messages: dict[str, list[bytes]] = field(default_factory=dict)  # id → every value that a topic has for it
    nameless: int = 0  # messages without an id


@dataclass
class Verdict:
    """All but `expected`, `found`, `dead` and `messages` must be nought."""

    expected: int = 0
    found: int = 0
    missing: int = 0
    different: int = 0  # rows that nobody expected, wrong texts among them
    duplicates: int = 0
    leaked: int = 0  # the text tells of another's audio than the row's
    overlapping: int = 0
    uncovered: int = 0  # stretches of accepted audio without a caption
    dead: int = 0
    dead_wrong: int = 0
    gaps_wrong: int = 0
    repeats_wrong: int = 0  # rows about duplicate records
    not_ended: int = 0
    unpublished: int = 0
    lag: int = 0
    messages: int = 0
    unsent: int = 0  # ids that no topic has
    unequal: int = 0  # ids with messages that differ, or that say something else than the row
    unknown: int = 0  # messages about nothing that is expected
    examples: list[str] = field(default_factory=list)  # of rows that are missing or different

    @property
    def passed(self) -> bool:
        figures = asdict(self)
        for good in ("expected", "found", "dead", "messages", "examples"):
            del figures[good]
        return not any(figures.values())

    def faults(self) -> str:
        """The figures that are not nought."""
        figures = asdict(self)
        examples = figures.pop("examples")
        return "\n".join(
            [", ".join(f"{k} {v}" for k, v in figures.items() if v) or "nothing at all", *examples]
        )


async def gather(url: str, brokers: str, prefix: str, group: str) -> Facts:
    """Read everything."""
    facts = Facts()
    connection = await asyncpg.connect(url)
    try:
        await _read_tables(connection, facts)
    finally:
        await connection.close()
    await read_topics(facts, brokers, prefix)
    facts.committed, facts.ends = await offsets(brokers, prefix + "audio.chunks", group)
    return facts


async def _read_tables(connection: Any, facts: Facts) -> None:
    for kind, query in RESULTS.items():
        facts.rows += [(r[0], (kind, *tuple(r)[1:])) for r in await connection.fetch(query)]
    dead = 'SELECT "partition", "offset", reason, channel, track, start_sample FROM dead_letters'
    facts.dead = [tuple(r) for r in await connection.fetch(dead)]
    facts.duplicates = [
        tuple(r) for r in await connection.fetch('SELECT "partition", "offset" FROM duplicates')
    ]
    gaps = "SELECT tenant_id, stream_id, session_id, first_sequence, last_sequence, start_sample, end_sample FROM gaps"
    facts.gaps = [tuple(r) for r in await connection.fetch(gaps)]
    ended = "SELECT tenant_id, stream_id, session_id FROM sessions WHERE ended"
    facts.ended = {tuple(r) for r in await connection.fetch(ended)}
    stored = 'SELECT "partition", next_offset FROM partitions'
    facts.stored = {r[0]: r[1] for r in await connection.fetch(stored)}
    facts.unpublished = await unpublished(connection)


async def unpublished(connection: Any) -> int:
    """Rows that no topic is known to have."""
    tables = ("transcripts", "captions", "events", "dead_letters")
    counts = [
        await connection.fetchval(f"SELECT count(*) FROM {t} WHERE published_at IS NULL") for t in tables
    ]
    return int(sum(counts))


async def read_topics(facts: Facts, brokers: str, prefix: str) -> None:
    """Every message of the output topics, from their beginning to their end as it is now."""
    names = [prefix + "audio." + name for name in OUTPUTS]
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)
    try:
        await consumer.start()
        known = await consumer._client.fetch_all_metadata()
        places = [TopicPartition(t, p) for t in names for p in known.partitions_for_topic(t) or ()]
        ends = await consumer.end_offsets(places)
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    ce_id = dict(record.headers).get("ce_id", b"").decode()
                    facts.nameless += not ce_id
                    facts.messages.setdefault(ce_id, []).append(record.value)
    finally:
        await consumer.stop()


async def offsets(brokers: str, topic: str, group: str) -> tuple[dict[int, int | None], dict[int, int]]:
    """By partition: what the group has committed to Kafka, and the log's end."""
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        found = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or set()
        places = [TopicPartition(topic, number) for number in sorted(found)]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        committed = {place.partition: await consumer.committed(place) for place in places}
        return committed, {place.partition: end for place, end in ends.items()}
    finally:
        await consumer.stop()


def judge(expected: Expected, facts: Facts, *, marked: bool = True) -> Verdict:
    """Hold what is there against what must be there; `marked`: the texts tell whose audio was heard."""
    verdict = Verdict(expected=len(expected.rows), dead=len(facts.dead), messages=len(facts.messages))
    _judge_rows(expected, facts, verdict)
    _judge_audio(expected, facts, verdict, marked)
    _judge_rest(expected, facts, verdict)
    _judge_topics(expected, facts, verdict)
    return verdict


def _judge_rows(expected: Expected, facts: Facts, verdict: Verdict) -> None:
    found = dict(facts.rows)
    verdict.missing = len(expected.rows.keys() - found.keys())
    verdict.different = sum(expected.rows.get(ce_id) != row for ce_id, row in found.items())
    verdict.found = sum(expected.rows.get(ce_id) == row for ce_id, row in found.items())
    wrong = [i for i in {**expected.rows, **found} if expected.rows.get(i) != found.get(i)]
    verdict.examples = [f"{i}: expected {expected.rows.get(i)}, found {found.get(i)}" for i in wrong[:5]]
    verdict.duplicates = len(facts.rows) - len(found)
    verdict.duplicates += len(facts.rows) - verdict.duplicates - len({row for _, row in facts.rows})


def _judge_audio(expected: Expected, facts: Facts, verdict: Verdict, marked: bool) -> None:
    """The rows against the audio alone."""
    spans: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for kind, *place, start, end, text in (row for _, row in facts.rows if row[0] != "event"):
        spans.setdefault((kind, *place), []).append((start, end))
        heard = expected.heard.get(tuple(place))
        told = _TOLD.fullmatch(text)
        if heard is None:
            verdict.leaked += 1
        elif not marked:
            continue
        elif told is not None:
            claims = (told[1], int(told[2]), int(told[3]), int(told[4]), told[5])
            verdict.leaked += claims != (kind, heard.voice, start, end, digest(heard.sound[start:end]))
        else:
            verdict.leaked += not text.endswith(digest(heard.sound[start:end]))
    for found in spans.values():
        found.sort()
        verdict.overlapping += sum(later[0] < earlier[1] for earlier, later in pairwise(found))
    poisoned = _poisoned_scenes(expected, facts)
    for whose, sent in expected.heard.items():
        covered = [*spans.get(("caption", *whose), []), *poisoned.get(whose, [])]
        holes = _subtract(_joined(sent.accepted), covered)
        verdict.uncovered += sum(_longest(start, end) >= SCENE_MIN_SAMPLES for start, end in holes)


def _poisoned_scenes(expected: Expected, facts: Facts) -> dict[tuple[Any, ...], list[tuple[int, int]]]:
    """Scene windows that ended as dead letters, as long as the grid allows: by the place of the audio they name."""
    found: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    dead = {(p, o, r, c, t, s) for p, o, r, c, t, s in facts.dead if r == "poison" and t == "scene"}
    for letter in dead & expected.dead:
        for place in expected.poisoned.get(letter, ()):
            found.setdefault(place[:-2], []).append((place[-2], place[-1]))
    return found


def _judge_rest(expected: Expected, facts: Facts, verdict: Verdict) -> None:
    verdict.dead_wrong = _apart(expected.dead, facts.dead)
    verdict.gaps_wrong = _apart(expected.gaps, facts.gaps)
    verdict.repeats_wrong = _apart(expected.duplicates, facts.duplicates)
    ended = {(key.tenant_id, key.stream_id, key.session_id) for key in expected.ended}
    verdict.not_ended = len(ended - facts.ended)
    verdict.unpublished = facts.unpublished
    for partition, end in expected.ends.items():
        verdict.lag += abs(facts.ends.get(partition, 0) - end)  # the harness's own count of the log
        for told in (facts.stored, facts.committed):
            verdict.lag += max(0, end - (told.get(partition) or 0))


def _judge_topics(expected: Expected, facts: Facts, verdict: Verdict) -> None:
    wanted: dict[str, Row | None] = dict(expected.rows)
    for partition, offset, _, channel, track, start in expected.dead:
        wanted[
            ":".join(_name(part) for part in (expected.topic, partition, offset, channel, track, start))
        ] = None
    verdict.unsent = len(wanted.keys() - facts.messages.keys())
    verdict.unknown = facts.nameless + len(facts.messages.keys() - wanted.keys())
    for ce_id, values in facts.messages.items():
        row = wanted.get(ce_id)
        verdict.unequal += len(set(values)) > 1 or (row is not None and not _tells(values[0], row))


def _tells(value: bytes, row: Row) -> bool:
    """Whether a message says what the row says."""
    found = json.loads(value)
    kind, tenant, stream, session, channel, start, end, *says = row
    place = (tenant, stream, session, channel, start // 16, end // 16)
    names = ("tenant_id", "stream_id", "session_id", "channel", "start_ms", "end_ms")
    told = ("event_type", "label", "value") if kind == "event" else ("text",)
    return tuple(found[n] for n in names) == place and [found[n] for n in told] == says


def _name(part: object) -> str:
    return "-" if part is None else str(part)


def _apart(expected: set[Any], found: Iterable[Any]) -> int:
    """How many are missing, are too many, or are there more than once."""
    counts = Counter(found)
    wrong = len(expected - counts.keys()) + len(counts.keys() - expected)
    return wrong + sum(count - 1 for count in counts.values())


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _longest(start: int, end: int) -> int:
    """The longest piece of a stretch that is cut along the grid of the scenes."""
    lines = range((start // SCENE_HOP_SAMPLES + 1) * SCENE_HOP_SAMPLES, end, SCENE_HOP_SAMPLES)
    edges: list[int] = [start, *lines, end]
    return max(after - before for before, after in pairwise(edges))


def _subtract(spans: list[tuple[int, int]], covered: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `spans` is not covered."""
    for begin, stop in covered:
        spans = [
            piece
            for start, end in spans
            for piece in ((start, min(end, begin)), (max(start, stop), end))
            if piece[0] < piece[1]
        ]
    return spans
