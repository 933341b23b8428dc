"""Messages and commits that the storage tests write."""

import asyncio
from typing import Any

import asyncpg

from storage.state import Commit, SessionState, TrackPosition
from streams.messages import (
    Alert,
    Caption,
    DeadLetter,
    Event,
    Match,
    ModelRef,
    SessionKey,
    Transcript,
    Word,
    segment_id,
)

TOPIC = "audio.chunks"
KEY = SessionKey("acme", "line-7", "s-1")
NANO = ModelRef(name="nano", version="0.1")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def span(start: int, end: int, *, channel: int | None = 0, key: SessionKey = KEY) -> dict[str, Any]:
    """The fields that every result begins with; 16 kHz samples."""
    return {
        "tenant_id": key.tenant_id,
        "stream_id": key.stream_id,
        "session_id": key.session_id,
        "channel": channel,
        "segment_id": segment_id(key.session_id, channel, start),
        "start_sample": start,
        "end_sample": end,
        "start_ms": start // 16,
        "end_ms": end // 16,
        "traceparent": TRACE,
    }


def transcript(start: int, end: int, text: str = "please hold the line", **more: Any) -> Transcript:
    fields = span(start, end, channel=more.pop("channel", 0), key=more.pop("key", KEY))
    word = Word(word="please", start_ms=start // 16, end_ms=end // 16, confidence=0.1 + 0.2)
    return Transcript(**fields, text=text, confidence=1e-7, words=(word,), model=NANO, **more)


def caption(start: int, end: int) -> Caption:
    return Caption(**span(start, end), text="music", language="en", confidence=1.0, model=NANO)


def event(start: int, end: int, event_type: str = "talk_speed", channel: int | None = 0) -> Event:
    fields = span(start, end, channel=channel)
    return Event(**fields, event_type=event_type, label="fast", source="dsp", value=171.25, unit="words/min")


def alert(start: int, end: int) -> Alert:
    match = Match(phrase="cancel", start_ms=start // 16, end_ms=end // 16)
    return Alert(**span(start, end), rule_id="r1", category="churn", matches=(match,))


def letter(offset: int, **more: Any) -> DeadLetter:
    fields: dict[str, Any] = {"reason": "decode", "detail": "broken", "payload_b64": "AAEC", **more}
    return DeadLetter(topic=TOPIC, partition=0, offset=offset, payload_size_bytes=3, **fields)


def state(resume: int = 10, **more: Any) -> SessionState:
    fields: dict[str, Any] = {
        "channels": 2,
        "rate": 8000,
        "roles": ("agent", "customer"),
        "source": "pbx",
        "ended": False,
        "seen_offset": resume + 5,
    }
    return SessionState(
        key=KEY, topic=TOPIC, partition=0, resume_sequence=resume, resume_offset=resume, **(fields | more)
    )


def position(sample: int, track: str = "speech", channel: int = 0) -> TrackPosition:
    return TrackPosition(KEY, channel, track, sample, run_start=0, in_speech=False)


def commit(epoch: int, next_offset: int = 10, **parts: Any) -> Commit:
    return Commit(topic=TOPIC, partition=0, epoch=epoch, next_offset=next_offset, **parts)


async def until_blocked(sql: asyncpg.Connection) -> None:
    """Wait until another connection to this database waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(20):
        while True:
            if await sql.fetchval(waiting):
                return
            await asyncio.sleep(0.005)
