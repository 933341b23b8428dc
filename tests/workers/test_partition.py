"""Which sessions of a partition somebody has to look at: those that changed, that wait, and that are quiet."""

from __future__ import annotations

import random

from streams.messages import Chunk, Record, SessionKey, chunk_headers, parse
from tests.sim.scenario import CHUNK, CONTENT, LIMITS, TOPIC
from workers.partition import Partition
from workers.session import Session


class World:
    """One partition, read up to its end all the time."""

    def __init__(self) -> None:
        self.part = Partition(TOPIC, 0, 1, 0, clear=True)
        self.now_s = 0.0
        self.sent: dict[str, int] = {}

    def send(self, stream: str, skip: int = 0) -> Session:
        """A chunk of a stream; `skip` sequences before it are missing."""
        key = SessionKey("default", stream, "u")
        session = self.part.sessions.setdefault(key, Session(key, LIMITS.session, place=(TOPIC, 0)))
        session.bound = True
        sequence = self.sent.get(stream, 0) + skip
        self.sent[stream] = sequence + 1
        headers = chunk_headers(key, sequence, sequence * CHUNK, CONTENT % 1, source="test")
        stamp_ms = round(self.now_s * 1000)
        record = Record(
            TOPIC, 0, self.part.position, stream.encode(), bytes(2 * CHUNK), tuple(headers), stamp_ms
        )
        self.part.position += 1
        chunk = parse(record, 1 << 20)
        assert isinstance(chunk, Chunk)
        session.accept(chunk, self.now_s, self.now_s, self.now_s)
        self.part.heard(session)
        while session.due:
            session.advance()
            self.part.touch(session)
        return session

    def idle(self, flush_s: float = 10.0) -> list[str]:
        self.part.clear_s = self.now_s
        return [session.key.stream_id for session in self.part.idle(self.now_s, flush_s)]


def test_quiet_sessions_come_out_quietest_first_and_once_flushed_no_more() -> None:
    world, rng = World(), random.Random(2)
    heard: dict[str, float] = {}
    for _ in range(500):
        world.now_s += 0.1
        stream = f"s{rng.randrange(30)}"
        world.send(stream)
        heard[stream] = world.now_s
        due = sorted((at_s, s) for s, at_s in heard.items() if world.now_s - at_s >= 2.0)
        assert world.idle(2.0) == [s for _, s in due]
    for session in world.part.idle(world.now_s, 2.0):
        session.flush_idle()
        world.part.touch(session)
    assert world.idle(2.0) == []
    assert "s0" in [s.key.stream_id for s in [world.send("s0")]]
    world.now_s += 3.0
    assert "s0" in world.idle(2.0)  # it went on, and is quiet again


def test_a_session_that_waits_for_a_chunk_is_not_idle_and_is_looked_at() -> None:
    world = World()
    world.send("calm")
    waits = world.send("holed", skip=3)
    assert world.part.waiting() == [waits]
    world.now_s = 60.0
    assert world.idle() == ["calm"]
    waits.hurry()
    while waits.due:
        waits.advance()
    world.part.touch(waits)
    assert world.part.waiting() == []
    assert world.idle() == ["calm", "holed"]


def test_what_was_touched_is_told_once_and_what_is_forgotten_not_at_all() -> None:
    world = World()
    first, second = world.send("a"), world.send("b")
    assert world.part.take_touched() == [first, second]
    assert world.part.take_touched() == []
    assert world.part.held_bytes == first.held_bytes + second.held_bytes > 0
    world.part.touch(second)
    world.part.forget(second)
    world.part.touch(second)  # as a task that was slow would
    assert world.part.take_touched() == []
    assert world.part.held_bytes == first.held_bytes
    assert [s.key.stream_id for s in world.part.quietest()] == ["a"]


def test_a_look_for_work_costs_nothing_when_all_are_quiet() -> None:
    world = World()
    looks = 0

    class Counting(Session):
        def quiet_s(self, now_s: float, clear_s: float) -> float:
            nonlocal looks
            looks += 1
            return super().quiet_s(now_s, clear_s)

    for n in range(1000):
        key = SessionKey("default", f"s{n}", "u")
        world.part.sessions[key] = Counting(key, LIMITS.session, place=(TOPIC, 0))
        world.send(f"s{n}")
    world.part.take_touched()
    assert world.idle() == []
    assert looks == 1
    assert world.part.waiting() == world.part.take_touched() == []
