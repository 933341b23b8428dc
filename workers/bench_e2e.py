"""`eureka bench e2e`: how many live streams one worker keeps up with, and what gives out first.

In: a number of streams, or the wish to find the largest. Out: a `Report` of every level: latency, backlog, what is
missing or twice, and where the CPU time went. Everything is real: broker, PostgreSQL that writes to disk, one worker
process with its engine, a sender in a process of its own (`workers.bench_load`), and this process as the client that
reads the topics. It looks into Postgres only to compare, with the SQL of the demo. Invariants: times are counted from
the schedule, not from a late sender; a level that did not settle takes its worker with it, so none inherits a backlog.

A level begins stream by stream; latency, backlog and CPU are those of the steady part, in which all streams play.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import numpy as np
from pydantic import SecretStr

from storage import migrate
from storage.embedded import embedded_postgres
from streams.errors import EurekaError, Unavailable
from workers import bench_cpu, demo_store
from workers.bench_cpu import Stage
from workers.bench_load import Plan, SenderReport, Tape, lay_tape, plan_of, plays_of, schedule
from workers.broker_embedded import EMBEDDED_SETTINGS, embedded_broker
from workers.demo_script import Play
from workers.demo_servers import READY_LINE, Running
from workers.demo_tally import Received, SentLog, Stored, latencies_ms, problems
from workers.kafka_admin import create_topics
from workers.recordings import RATE_HZ, obtain
from workers.settings import load_settings
from workers.tail import tail_messages

BrokerChoice = Literal["embedded", "settings"]
LATENCY_LIMIT_MS = 2000.0
GROWTH_LIMIT = 0.05  # of the windows that came; under one window, or within three standard errors, is none
LATE_LIMIT_MS = 100.0  # a sender that is later does not offer the load that it claims
SATURATED = 0.9
FOREIGN_CORES = 0.2  # more than that, and a full machine is not our doing
MAX_LEVELS = 10
BACKLOG_EVERY_S = 1.0
SETTLE_S = 30.0  # and twice the level's length: an overloaded level has its backlog to work off
POLL_S = 0.5
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Backlog:
    """The backlog at several instants of the steady part, `at_s` after the first stream's begin.

    `waiting_windows`: spoken to their end, result not yet on its topic. `uncommitted_records`: due, but not yet behind
    the offsets in Postgres (a partition's oldest open window holds all that follow). The slopes are of least-squares
    lines; `grown_windows` is the slope over the whole steady part, `noise_windows` the standard error of that.
    """

    at_s: tuple[float, ...]
    waiting_windows: tuple[int, ...]
    uncommitted_records: tuple[int, ...]
    windows_per_s: float
    records_per_s: float
    grown_windows: float
    noise_windows: float


@dataclass(frozen=True)
class Level:
    """One number of streams, measured. Latencies are None where nothing was heard in the steady part.

    `other_cores` were taken by processes that are none of ours: with more than a little, the level says less.
    """

    streams: int
    seconds: float
    steady_s: float
    chunk_ms: int
    speech_share: float
    windows: Mapping[str, int]
    finals_measured: int
    final_latency_ms: Mapping[str, int | None]
    caption_latency_ms: Mapping[str, int | None]
    backlog: Backlog
    settle_s: float | None
    sender: SenderReport
    stages: Mapping[str, Stage]
    other_cores: float
    bottleneck: str
    bottleneck_share: float
    missing: int
    duplicates: int
    unpublished: int
    problems: tuple[str, ...]
    reasons: tuple[str, ...]
    sustained: bool


@dataclass(frozen=True)
class Report:
    """Every level in the order measured. `largest` is the largest sustained one, None when there was none.

    `saturated` names the stage with the highest share of its limit at the lowest level that was not sustained (or,
    when all were, at the largest); None when that share is below `SATURATED`.
    """

    broker: str
    model: str | None
    cores: int
    levels: tuple[Level, ...]
    largest: int | None
    saturated: str | None


@dataclass(frozen=True)
class Bench:
    """A worker that is ready, and the messages that arrive from its topics."""

    run: Running
    arriving: queue.SimpleQueue[Received]
    listener: threading.Thread
    environment: Mapping[str, str]


def run(
    *,
    streams: int = 1,
    find: bool = False,
    seconds: float = 40.0,
    chunk_ms: int = 100,
    seed: int = 1,
    broker: BrokerChoice = "embedded",
    recordings: Path = Path("build/recordings"),
) -> Report:
    """Measure `streams`, or with `find` search from there for the largest number that is sustained.

    Settings (`EUREKA_*`) hold for the worker; broker "settings" uses EUREKA_BROKERS, where topics of the run's own
    stay behind. Progress goes to standard error. Raises EurekaError.
    """
    levels: list[Level] = []
    model = None
    with ExitStack() as stack, ExitStack() as workers:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eureka-bench-")))
        folder.chmod(0o755)  # as root, PostgreSQL runs under a user of its own
        tape = lay_tape(obtain(recordings, _say), seconds, chunk_ms, seed)
        (folder / "tape").write_bytes(tape.codes)
        url = stack.enter_context(embedded_postgres(folder / "postgres"))
        given: dict[str, Any] = {}
        if broker == "embedded":
            given = EMBEDDED_SETTINGS | {"brokers": stack.enter_context(embedded_broker())}
        asyncio.run(migrate.upgrade(url))
        bench: Bench | None = None
        following: int | None = streams
        while following is not None:
            if bench is None:
                bench = workers.enter_context(_bench(given, url, folder))
            session = "bench-" + uuid.uuid4().hex[:8]
            plan = plan_of(tape, folder / "tape", session, following, seconds, chunk_ms)
            level, heard_model = _measure(bench, plan, tape, folder)
            model = heard_model or model
            levels.append(level)
            _say(_line(level))
            if level.settle_s is None:
                workers.close()
                bench = None
            following = (
                next_streams({one.streams: one.sustained for one in levels}, streams) if find else None
            )
    return Report(
        broker=broker,
        model=model,
        cores=bench_cpu.cores(),
        levels=tuple(levels),
        largest=max((level.streams for level in levels if level.sustained), default=None),
        saturated=_saturated(levels),
    )


def next_streams(sustained: Mapping[int, bool], first: int) -> int | None:
    """The level to measure next: doubling, then bisection to about 6 %; None when the search is over."""
    low = max((streams for streams, kept in sustained.items() if kept), default=0)
    high = min((streams for streams, kept in sustained.items() if not kept), default=None)
    if len(sustained) >= MAX_LEVELS:
        return None
    if high is None:
        return low * 2 or first
    return (low + high) // 2 if high - low > max(1, low // 16) else None


# ---- servers -----------------------------------------------------------------------------------------------------


@contextmanager
def _bench(given: Mapping[str, Any], url: str, folder: Path) -> Iterator[Bench]:
    """Topics of their own, a worker on them, and a reader of the results. Raises Unavailable."""
    name = "bench-" + uuid.uuid4().hex[:8]
    overrides = dict(given) | {"group_id": "eureka-" + name, "topic_prefix": name + "."}
    settings = load_settings(database_url=SecretStr(url), **overrides)
    environment = os.environ | {"EUREKA_" + key.upper(): str(value) for key, value in overrides.items()}
    asyncio.run(create_topics(settings))
    log = folder / (name + ".log")
    _say("worker: starting")
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "worker"],
            env=environment | {"EUREKA_DATABASE_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process, which then asks the worker
        )
    run = Running(name, settings, url, worker, log)
    arriving: queue.SimpleQueue[Received] = queue.SimpleQueue()
    stop = threading.Event()
    listener = threading.Thread(target=_listen, args=(run, arriving, stop), name="listen")
    try:
        _wait_until_ready(run)
        listener.start()
        _say("worker: ready")
        yield Bench(run, arriving, listener, environment)
    finally:
        stop.set()
        status = run.stop_worker()
        if listener.ident is not None:
            listener.join()
        if status != 0:
            _say("worker: ended with status %d" % status)


def _wait_until_ready(run: Running) -> None:
    limit_s = run.settings.engine_warm_up_s + run.settings.assign_timeout_s
    deadline_s = time.monotonic() + limit_s
    while READY_LINE not in run.worker_log.read_text(errors="replace"):
        run.check_alive()
        if time.monotonic() > deadline_s:
            raise Unavailable("the worker was not ready within %.0f s" % limit_s)
        time.sleep(0.1)


def _listen(run: Running, arriving: queue.SimpleQueue[Received], stop: threading.Event) -> None:
    """Every message of the worker's topics, with its time of receipt."""
    try:
        for message in tail_messages(run.settings, from_start=True, stop=stop):
            arriving.put(Received(message.kind, message.ce_id, message.fields, time.monotonic()))
    except EurekaError as error:  # the level sees that the thread has ended
        _say("listener: %s" % error)


@contextmanager
def _sending(bench: Bench, plan: Plan, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The sender process with its plan; what it says is on its standard output."""
    with (folder / "sender.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.bench_load"],
            env=dict(bench.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(asdict(plan)))
        process.stdin.close()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _said(process: subprocess.Popen[str], folder: Path) -> dict[str, Any]:
    """The sender's next line; its producer's timeouts bound the wait. Raises Unavailable when it has ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        reason = (folder / "sender.log").read_text(errors="replace").strip()[-500:]
        raise Unavailable("the sender ended: %s" % (reason or "without a word"))
    return dict(json.loads(line))


# ---- one level ---------------------------------------------------------------------------------------------------


def _measure(bench: Bench, plan: Plan, tape: Tape, folder: Path) -> tuple[Level, str | None]:
    """Play, watch the steady part, wait until all is settled, judge; the level and the model that answered."""
    _say("streams: %d, of %g s each, begun over %.1f s" % (plan.streams, plan.seconds, max(plan.starts_s)))
    plays = plays_of(plan, tape)
    base = asyncio.run(_committed(bench.run))
    with _sending(bench, plan, folder) as sender:
        started_s = float(_said(sender, folder)["started_s"])
        steady = _Steady(started_s, max(plan.starts_s), plan.seconds)
        time.sleep(max(0.0, steady.from_s - time.monotonic()))
        before = bench_cpu.look(bench.run.worker.pid, sender.pid)
        committed = asyncio.run(_watch(bench.run, steady))
        after = bench_cpu.look(bench.run.worker.pid, sender.pid)
        report = SenderReport(**_said(sender, folder))
    sent_s = started_s + max(plan.starts_s) + plan.seconds
    received, found, settle_s = _settle(bench, plan, plays, sent_s)
    sent = schedule(plan, started_s)
    finals = latencies_ms(plays, sent, [m for m in received if steady.holds(_spoken_s(m, sent))])
    captions = [
        (m.at_s - _spoken_s(m, sent)) * 1000
        for m in received
        if m.kind == "caption" and steady.holds(_spoken_s(m, sent))
    ]
    backlog = _backlog(
        plan, steady, committed, base, [(_spoken_s(m, sent), m.at_s) for m in _windows(received)]
    )
    engine_cores = bench.run.settings.engine_processes * bench.run.settings.engine_threads
    stages = bench_cpu.stages_between(before, after, engine_cores)
    bottleneck = max(stages, key=lambda name: stages[name].share)
    latency = _percentiles(finals)
    in_steady = sum(steady.holds(_spoken_s(m, sent)) for m in _windows(received))
    wrong = {kind: len(lines) for kind, lines in found.items() if lines}
    reasons = _reasons(latency["p95"], report.late_ms["p95"], backlog, in_steady, settle_s, wrong)
    model = next((m.fields["model"] for m in received if m.kind == "transcript"), None)
    level = Level(
        streams=plan.streams,
        seconds=plan.seconds,
        steady_s=round(steady.length_s, 1),
        chunk_ms=plan.chunk_ms,
        speech_share=round(
            float(np.mean([tape.speech_share(*plan.place(n)) for n in range(plan.streams)])), 3
        ),
        windows={kind: sum(m.kind == kind for m in received) for kind in ("transcript", "caption")},
        finals_measured=len(finals),
        final_latency_ms=latency,
        caption_latency_ms=_percentiles(captions),
        backlog=backlog,
        settle_s=settle_s,
        sender=report,
        stages=stages,
        other_cores=bench_cpu.other_cores(stages),
        bottleneck=bottleneck,
        bottleneck_share=stages[bottleneck].share,
        missing=len(found["missing"]),
        duplicates=len(found["duplicates"]),
        unpublished=len(found["unpublished"]),
        problems=tuple([line for lines in found.values() for line in lines][:SHOWN_PROBLEMS]),
        reasons=reasons,
        sustained=not reasons,
    )
    return level, "%s %s" % (model["name"], model["version"]) if model else None


@dataclass(frozen=True)
class _Steady:
    """The part of a level in which every stream plays, on the monotonic clock."""

    started_s: float
    begins_s: float
    ends_s: float

    @property
    def from_s(self) -> float:
        return self.started_s + self.begins_s

    @property
    def to_s(self) -> float:
        return self.started_s + self.ends_s

    @property
    def length_s(self) -> float:
        return self.ends_s - self.begins_s

    def holds(self, at_s: float) -> bool:
        return self.from_s <= at_s < self.to_s


def _windows(received: Sequence[Received]) -> list[Received]:
    """The results that the engine worked for."""
    return [message for message in received if message.kind in ("transcript", "caption")]


def _spoken_s(message: Received, sent: Mapping[str, SentLog]) -> float:
    """When the end of the message's window was due to leave, on the monotonic clock; infinity for what has no end."""
    log, end_ms = sent.get(str(message.fields.get("stream_id"))), message.fields.get("end_ms")
    when_s = None if log is None or end_ms is None else log.when_s(int(end_ms) * RATE_HZ // 1000 - 1)
    return float("inf") if when_s is None else when_s


async def _watch(run: Running, steady: _Steady) -> list[tuple[float, int]]:
    """Every second of the steady part: the time, and the sum of the offsets in Postgres."""
    seen = []
    connection = await asyncpg.connect(run.database_url)
    try:
        at_s = steady.from_s
        while at_s < steady.to_s:
            await asyncio.sleep(at_s - time.monotonic())
            seen.append((time.monotonic(), await _offsets(connection, run)))
            at_s += BACKLOG_EVERY_S
    finally:
        await connection.close()
    await asyncio.sleep(steady.to_s - time.monotonic())
    return seen


async def _committed(run: Running) -> int:
    connection = await asyncpg.connect(run.database_url)
    try:
        return await _offsets(connection, run)
    finally:
        await connection.close()


async def _offsets(connection: Any, run: Running) -> int:
    return int(
        await connection.fetchval(
            "SELECT coalesce(sum(next_offset), 0) FROM partitions WHERE topic = $1",
            run.settings.topics.chunks,
        )
    )


def _settle(
    bench: Bench, plan: Plan, plays: Sequence[Play], sent_s: float
) -> tuple[list[Received], dict[str, list[str]], float | None]:
    """What arrived, what is wrong with it, and how long it took until nothing was missing any more, None for never."""
    received: list[Received] = []
    while True:
        alive = bench.run.worker.poll() is None and bench.listener.is_alive()
        while not bench.arriving.empty():
            message = bench.arriving.get()
            if message.fields.get("session_id") == plan.session_id:
                received.append(message)
        waited_s = time.monotonic() - sent_s
        stored = _stored(bench.run, plan)
        found = problems(plays, stored, received)
        if len(stored.ended) == len(plays) and not found["missing"] and not found["unpublished"]:
            return received, found, round(max(0.0, waited_s), 1)
        if not alive or waited_s > SETTLE_S + 2 * plan.seconds:
            return received, found, None
        time.sleep(POLL_S)


def _stored(run: Running, plan: Plan) -> Stored:
    return asyncio.run(demo_store.read(run.database_url, plan.session_id))


def _backlog(
    plan: Plan,
    steady: _Steady,
    committed: Sequence[tuple[float, int]],
    base: int,
    windows: Sequence[tuple[float, float]],
) -> Backlog:
    """From (time, offsets) and from (spoken, arrived) of every window."""
    at_s = [time_s - steady.started_s for time_s, _ in committed]
    records = [
        plan.records_due(due_s) - (total - base) for due_s, (_, total) in zip(at_s, committed, strict=True)
    ]
    waiting = [
        sum(spoken_s <= time_s < arrived_s for spoken_s, arrived_s in windows) for time_s, _ in committed
    ]
    windows_per_s, error = _slope(at_s, waiting)
    return Backlog(
        at_s=tuple(round(value, 1) for value in at_s),
        waiting_windows=tuple(waiting),
        uncommitted_records=tuple(records),
        windows_per_s=round(windows_per_s, 3) + 0.0,
        records_per_s=round(_slope(at_s, records)[0], 2),
        grown_windows=round(windows_per_s * steady.length_s, 1) + 0.0,  # never -0.0
        noise_windows=round(error * steady.length_s, 1),
    )


def _slope(x: Sequence[float], y: Sequence[int]) -> tuple[float, float]:
    """Of the least-squares line, and its standard error; zeros for fewer than three points."""
    if len(x) < 3:
        return 0.0, 0.0
    apart = np.asarray(x) - np.mean(x)
    height = np.asarray(y) - np.mean(y)
    slope = float(apart @ height / (apart @ apart))
    left = height - slope * apart
    return slope, float(np.sqrt(left @ left / (len(x) - 2) / (apart @ apart)))


def _reasons(
    p95_ms: int | None,
    late_ms: float,
    backlog: Backlog,
    windows: int,
    settle_s: float | None,
    wrong: Mapping[str, int],
) -> tuple[str, ...]:
    """Why the level was not sustained; nothing when it was."""
    reasons = []
    if p95_ms is None:
        reasons.append("no final with words in the steady part")
    elif p95_ms >= LATENCY_LIMIT_MS:
        reasons.append("p95 of the finals is %d ms" % p95_ms)
    if late_ms > LATE_LIMIT_MS:
        reasons.append("the sender was late by %d ms" % late_ms)
    if backlog.grown_windows > max(1.0, GROWTH_LIMIT * windows, 3 * backlog.noise_windows):
        reasons.append("the backlog grew by %.1f of %d windows" % (backlog.grown_windows, windows))
    if settle_s is None:
        reasons.append("not everything was settled in time")
    return (*reasons, *("%d %s" % (count, kind) for kind, count in wrong.items()))


def _percentiles(values: Sequence[float]) -> dict[str, int | None]:
    return {
        "p%d" % percent: round(float(np.percentile(values, percent))) if values else None
        for percent in (50, 95)
    }


def _saturated(levels: Sequence[Level]) -> str | None:
    lost = [level for level in levels if not level.sustained]
    kept = [level for level in levels if level.sustained]
    telling = (
        min(lost, key=lambda level: level.streams) if lost else max(kept, key=lambda level: level.streams)
    )
    if telling.bottleneck_share < SATURATED:
        return None
    if telling.bottleneck == "machine" and telling.other_cores > FOREIGN_CORES:
        return "machine (%.1f of %d cores by other processes)" % (telling.other_cores, bench_cpu.cores())
    return telling.bottleneck


def _line(level: Level) -> str:
    """A level for people."""
    verdict = "sustained" if level.sustained else "not sustained: " + "; ".join(level.reasons)
    return (
        "streams: %d, p50 %s ms, p95 %s ms, backlog %+.1f windows, busiest %s at %d %%, others %.1f cores; %s"
        % (
            level.streams,
            level.final_latency_ms["p50"],
            level.final_latency_ms["p95"],
            level.backlog.grown_windows,
            level.bottleneck,
            round(level.bottleneck_share * 100),
            level.other_cores,
            verdict,
        )
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
