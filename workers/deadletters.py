"""Puts dead letters back: a refused record onto the chunk topic, a refused window to the engine.

In: ids of dead letters. Out: what became of each. A letter keeps its record's place in Kafka and part of its bytes, not
its headers, so the record itself is read again from the topic; where it is gone, nothing is put back. It is put back
only if it would not be refused again today.
A session that has settled a record's turn takes nothing for it any more. The record then goes into a session of its
own, `SESSION.rNUMBER`, together with the other letters of that session that are put back with it, and that session is
ended; a record of a session of which nothing was ever stored goes back as it was.
Invariant: an attempt is noted before it is sent and marked after it. A crash between the two leaves a note; the next
call sends the same record again, with the same session, sequence and id, and if the topic had it already the worker
records the second one as a duplicate. Nothing is analysed twice.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka.errors import KafkaError

from storage import deadletters
from storage.database import Database, opened
from storage.deadletters import Claim
from streams.audio import decode
from streams.errors import Reject, Unavailable
from streams.messages import Chunk, Record, SessionEnd, SessionKey, end_headers, parse
from streams.wire import MAX_ID_BYTES, MAX_ID_CHARS, Headers
from workers import kafka_log
from workers.kafka_log import Gone, KafkaLog
from workers.parts import audio_limits
from workers.producer import open_producer
from workers.settings import Settings

SOURCE = "/eureka-stream/requeue"
NOTE = "eureka-requeue"  # header: number of the letter and of the attempt
MOST = 500  # letters in one call: their records are held in memory together


@dataclass(frozen=True, slots=True)
class Requeued:
    """What became of one letter: `outcome` is requeued, analysed, refused or skipped; `offset` is its new place."""

    id: int
    outcome: str
    detail: str
    session_id: str | None = None
    partition: int | None = None
    offset: int | None = None


@dataclass(slots=True)
class _Back:
    """A record on its way back."""

    letter: dict[str, Any]
    record: Record
    message: Chunk | SessionEnd
    claim: Claim
    partition: int
    offset: int | None = None


@dataclass(slots=True)
class _Session:
    """A session of its own for letters of one session: which id each sequence has."""

    name: str
    ids: dict[int, str] = field(default_factory=dict)


async def requeue(
    settings: Settings, ids: Sequence[int], *, actor: str, again: bool = False
) -> list[Requeued]:
    """Put these letters back, in the order of their place in Kafka. Raises Unavailable."""
    if settings.database_url is None:
        raise Unavailable("no database is named: set EUREKA_DATABASE_URL or DATABASE_URL")
    async with opened(settings.database_url) as database:
        async with database.transaction() as connection:
            letters = await deadletters.load(connection, ids)
        said = [Requeued(id, "refused", "no such dead letter") for id in sorted(set(ids) - _ids(letters))]
        waiting = []
        for letter in letters:
            if letter["requeued_at"] is not None and not again:
                when = letter["requeued_at"].isoformat(timespec="seconds")
                detail = "requeued on %s by %s; --again does it once more" % (when, letter["requeued_by"])
                said.append(Requeued(letter["id"], "skipped", detail, letter["requeued_session"]))
            else:
                waiting.append(letter)
        windows = [letter for letter in waiting if letter["track"] is not None]
        records = [letter for letter in waiting if letter["track"] is None]
        if records:
            async with kafka_log.opened(settings) as log:
                said += await _requeue_records(settings, database, log, records, actor)
        if windows:
            from workers.replay import analyse_letters

            said += await analyse_letters(settings, database, windows, actor)
    return sorted(said, key=lambda one: one.id)


def next_attempt(letter: dict[str, Any]) -> tuple[int, bool]:
    """Number of the attempt to make, and whether it was noted before and perhaps made."""
    before = letter["requeues"] or 0
    interrupted = bool(before) and letter["requeued_at"] is None
    return (before, True) if interrupted else (before + 1, False)


async def _requeue_records(
    settings: Settings, database: Database, log: KafkaLog, letters: list[dict[str, Any]], actor: str
) -> list[Requeued]:
    said: list[Requeued] = []
    found: list[tuple[dict[str, Any], Record, Chunk | SessionEnd]] = []
    for letter in letters:
        try:
            record = await original(log, letter)
            found.append((letter, record, _readable(settings, record)))
        except Gone as gone:
            said.append(Requeued(letter["id"], "refused", "%s; %s" % (gone, _kept(letter))))
        except Reject as reject:
            said.append(Requeued(letter["id"], "refused", "would be refused again: %s" % reject))
    backs = await _claim(database, found, actor, said)
    return said + await _send_back(settings, database, backs)


async def original(log: KafkaLog, letter: dict[str, Any]) -> Record:
    """The record that a letter is about. Raises Gone."""
    topic, partition, offset = letter["topic"], letter["partition"], letter["offset"]
    if not letter["still_there"]:
        raise Gone(f"{topic} {partition} was made anew since: its offset {offset} is another record's now")
    record = await log.record(topic, partition, offset)
    kept = base64.b64decode(letter["payload_b64"] or "")
    value = record.value or b""
    if len(value) != (letter["payload_size_bytes"] or 0) or value[: len(kept)] != kept:
        raise Gone(f"{topic} {partition}: offset {offset} is another record's now")
    return record


def _readable(settings: Settings, record: Record) -> Chunk | SessionEnd:
    """The record's message. Raises Reject for one that a worker with these settings refuses by itself."""
    message = parse(record, settings.max_chunk_bytes)
    if isinstance(message, Chunk):
        decode(message.content_type, message.payload, audio_limits(settings))
    return message


async def _claim(
    database: Database,
    found: list[tuple[dict[str, Any], Record, Chunk | SessionEnd]],
    actor: str,
    said: list[Requeued],
) -> list[_Back]:
    """Decide where each record goes and note it."""
    backs: list[_Back] = []
    own: dict[SessionKey, _Session] = {}
    async with database.transaction() as connection:
        for letter, record, message in found:
            key, (attempt, interrupted) = message.key, next_attempt(letter)
            known = await deadletters.is_known(connection, key)
            name = letter["requeued_session"] if interrupted else None
            if name is None and known and not interrupted:
                if isinstance(message, SessionEnd):
                    detail = "the end of a session that goes on without it carries no audio"
                    said.append(Requeued(letter["id"], "refused", detail))
                    continue
                name = _own_session(own, message, letter["id"], attempt)
            home = await deadletters.home(connection, key, letter["topic"])
            claim = Claim(letter["id"], attempt, name, actor)
            partition = letter["partition"] if home is None else home
            backs.append(_Back(letter, record, message, claim, partition))
        await deadletters.claim(connection, [back.claim for back in backs])
    return backs


def _own_session(own: dict[SessionKey, _Session], chunk: Chunk, letter_id: int, attempt: int) -> str:
    """The session of its own that a chunk goes into: another one where a producer has begun to count anew."""
    session = own.get(chunk.key)
    if session is None or session.ids.get(chunk.sequence, chunk.ce_id) != chunk.ce_id:
        suffix = "r%d" % letter_id if attempt == 1 else "r%d.%d" % (letter_id, attempt)
        name = "%s.%s" % (chunk.key.session_id, suffix)
        too_long = len(name) > MAX_ID_CHARS or len(name.encode()) > MAX_ID_BYTES
        session = own[chunk.key] = _Session(suffix if too_long else name)
    session.ids[chunk.sequence] = chunk.ce_id
    return session.name


async def _send_back(settings: Settings, database: Database, backs: list[_Back]) -> list[Requeued]:
    """Send what nobody else is sending now, and mark it. Raises Unavailable; the notes stay then."""
    if not backs:
        return []
    said = []
    async with database.transaction() as connection:
        free = await deadletters.lock(connection, [back.claim for back in backs])
        mine = [back for back in backs if back.claim.letter_id in free]
        await _produce(settings, mine)
        await deadletters.done(connection, [back.claim for back in mine])
    for back in backs:
        if back not in mine:
            said.append(
                Requeued(back.claim.letter_id, "skipped", "somebody else puts it back at this moment")
            )
            continue
        own = back.claim.session_id
        detail = "as it was" if own is None else "into a session of its own: its turn in the first has passed"
        place = (own or back.message.key.session_id, back.partition, back.offset)
        said.append(Requeued(back.claim.letter_id, "requeued", detail, *place))
    return said


async def _produce(settings: Settings, backs: list[_Back]) -> None:
    try:
        producer = await open_producer(settings, "eureka-operations")
    except KafkaError as error:
        raise _away(settings, error) from None
    try:
        for back in backs:
            sent = await producer.send_and_wait(
                back.record.topic,
                back.record.value,
                key=back.record.key,
                partition=back.partition,
                headers=_headers(back),
            )
            back.offset = sent.offset
        for key, (topic, partition, sequence) in _ends(backs).items():
            headers = end_headers(key, sequence, source=SOURCE)
            await producer.send_and_wait(
                topic, b"", key=key.stream_id.encode(), partition=partition, headers=headers
            )
    except KafkaError as error:
        raise _away(settings, error) from None
    finally:
        await producer.stop()


def _away(settings: Settings, error: KafkaError) -> Unavailable:
    return Unavailable("no broker at %s: %s" % (settings.brokers, type(error).__name__))


def _headers(back: _Back) -> Headers:
    """The record's own headers, with the session that it goes into and a note of where it comes from."""
    headers = [(name, value) for name, value in back.record.headers if name.lower() != NOTE]
    own = back.claim.session_id
    if own is not None:
        headers = [(name, value) for name, value in headers if name.lower() != "ce_sessionid"]
        headers.append(("ce_sessionid", own.encode()))
    return [*headers, (NOTE, b"%d.%d" % (back.claim.letter_id, back.claim.attempt))]


def _ends(backs: list[_Back]) -> dict[SessionKey, tuple[str, int, int]]:
    """Where the end of each session of its own goes, and its sequence."""
    ends: dict[SessionKey, tuple[str, int, int]] = {}
    for back in backs:
        if back.claim.session_id is not None and isinstance(back.message, Chunk):
            key = replace(back.message.key, session_id=back.claim.session_id)
            after = back.message.sequence + 1
            ends[key] = (back.record.topic, back.partition, max(after, ends.get(key, ("", 0, 0))[2]))
    return ends


def _kept(letter: dict[str, Any]) -> str:
    size = letter["payload_size_bytes"]
    kept = len(base64.b64decode(letter["payload_b64"] or ""))
    if size is not None and kept == size:
        return "the letter has its %d bytes (`show --payload`), not its sequence and place" % size
    return "the letter has %d of its %s bytes" % (kept, "unknown" if size is None else size)


def _ids(letters: Sequence[dict[str, Any]]) -> set[int]:
    return {letter["id"] for letter in letters}
