"""`python -m tests.faults.soak`: half an hour of live sessions through one worker. Does it grow, does it lose anything?

In: minutes, lines, a seed. Out: a table on standard output, a JSON report, a picture; status 1 when a figure was not
steady (`soak_judge`), or when anything is missing, twice, unpublished, different or behind (`soak_check`). All of it is
real: Apache Kafka, PostgreSQL, one `eureka worker` with its engine process, speech from the demo's recordings.
Invariant: one and the same worker and engine process are watched from their start to the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaProducer
from safetensors import safe_open

from model.config import EurekaConfig
from streams.errors import Unavailable
from tests.faults import checker, soak_check
from tests.faults.process import ROOT
from tests.faults.soak_judge import FEWEST, Finding, judge
from tests.faults.soak_load import PARTITIONS, REORDER_WAIT_S, Sound, Written, play_line
from tests.faults.soak_plot import plot
from tests.faults.soak_watch import Watch
from tests.faults.stage import TEMPLATE, Stage, open_stage
from tests.servers.postgres import named
from workers.bench_load import TAPE_S, lay_tape
from workers.demo_servers import READY_LINE, Running
from workers.kafka_admin import create_topics
from workers.recordings import obtain, read_audio
from workers.settings import Settings

WAIT_S: Final = 300.0
POLL_S: Final = 0.5
LATE_LIMIT_S: Final = 1.0  # a sender that is later does not send what the scripts say
PREFIX: Final = "soak."


@dataclass
class Soak:
    """All that was found. `wrong`: why it did not pass; empty when it did."""

    minutes: float
    lines: int
    seed: int
    machine: str
    sessions: int = 0
    idle: int = 0  # of the sessions: those that ended without a word
    records: int = 0
    late_s: float = 0.0  # the latest that a record left, of all sessions
    settle_s: float = 0.0
    exit_status: int | None = None
    logged: dict[str, int] = field(
        default_factory=dict
    )  # warnings and errors in the worker's log, by message
    rows: dict[str, int] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    texts_compared: int = 0
    texts_differ: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def main() -> int:
    """Run it; 0 when it was steady and nothing was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=float, default=30.0, help="how long sessions begin, and are watched"
    )
    parser.add_argument("--streams", type=int, default=6, help="how many play at a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-s", type=float, default=10.0, help="time between two samples")
    parser.add_argument("--recordings", type=Path, default=Path("build/recordings"))
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"), help="where the report goes")
    parser.add_argument("--plot", type=Path, default=Path("build/soak.png"), help="where the picture goes")
    args = parser.parse_args()
    if args.minutes * 60 / args.every_s < FEWEST or args.minutes < 3 or args.streams < 1:
        parser.error(
            f"at least one stream, three minutes (then sessions repeat) and {FEWEST} samples are needed"
        )
    sound = sound_of(args.recordings, args.seed)
    soak = Soak(args.minutes, args.streams, args.seed, f"{os.cpu_count()} cores, {platform.machine()}")
    with open_stage() as stage:
        settings, url = prepare(stage)
        with _worker(settings, url, stage.folder / "worker.log") as run:
            written = asyncio.run(_play(run, soak, sound, args.every_s))
            soak.exit_status = run.stop_worker()
        soak.logged = _logged(run.worker_log)
        asyncio.run(_check(run, soak, sound, written))
    soak.findings = judge(soak.at_s, soak.values)
    soak.wrong = reasons(soak)
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(asdict(soak), indent=1) + "\n", encoding="utf-8")
    title = f"{soak.minutes:g} minutes, {soak.lines} live streams at a time, {soak.sessions} sessions, seed {soak.seed}"
    plot(soak.at_s, soak.values, title, args.plot)
    print(table(soak))
    return 1 if soak.wrong else 0


def sound_of(recordings: Path, seed: int) -> Sound:
    """Ten minutes of speech with pauses and one piece of music, of the demo's recordings."""
    found = obtain(recordings, _say)
    tape = lay_tape(found, 120.0, 200, seed)
    return Sound(tape.audio[: (TAPE_S + 120) * 16_000], read_audio(Path(found.music[0])))


def prepare(stage: Stage) -> tuple[Settings, str]:
    """The database and topics of the run, and the worker's settings: its own, but for what a soak must know."""
    settings = Settings(
        brokers=stage.kafka.address,
        topic_prefix=PREFIX,
        group_id=PREFIX + "workers",
        chunk_partitions=PARTITIONS,
        result_partitions=2,
        reorder_wait_s=REORDER_WAIT_S,
    )
    asyncio.run(_create(stage))
    asyncio.run(create_topics(settings))
    return settings, named(stage.postgres.url, "soak")


async def _create(stage: Stage) -> None:
    connection = await asyncpg.connect(stage.postgres.url)
    try:
        await connection.execute(f"CREATE DATABASE soak TEMPLATE {TEMPLATE}")
    finally:
        await connection.close()


@contextmanager
def _worker(settings: Settings, url: str, log: Path) -> Iterator[Running]:
    """`eureka worker`, ready; gone at the end. Raises Unavailable."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EUREKA_") and k != "DATABASE_URL"}
    given = settings.model_dump(exclude_unset=True)
    environment |= {"EUREKA_" + name.upper(): str(value) for name, value in given.items()}
    environment |= {"EUREKA_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers.cli", "worker"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd=ROOT,
        )
    run = Running("soak", settings, url, process, log)
    try:
        deadline_s = time.monotonic() + settings.engine_warm_up_s + settings.assign_timeout_s
        while READY_LINE not in log.read_text(errors="replace"):
            run.check_alive()
            if time.monotonic() > deadline_s:
                raise Unavailable("the worker was not ready in time")
            time.sleep(0.2)
        yield run
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


# ---- the run -----------------------------------------------------------------------------------------------------


async def _play(run: Running, soak: Soak, sound: Sound, every_s: float) -> Written:
    """Play and watch, then wait until all is settled."""
    written = Written()
    producer = AIOKafkaProducer(bootstrap_servers=run.settings.brokers, acks="all", enable_idempotence=True)
    await producer.start()
    connection = await asyncpg.connect(run.database_url)
    try:
        until_s = time.monotonic() + soak.minutes * 60
        topic = run.settings.topics.chunks
        async with asyncio.TaskGroup() as group:
            for line in range(soak.lines):
                group.create_task(play_line(line, soak.seed, sound, producer, topic, until_s, written))
            group.create_task(_sample(run, soak, connection, written, every_s, until_s))
        soak.settle_s = round(await _settle(run, connection, written), 1)
    finally:
        await connection.close()
        await producer.stop()
    soak.sessions, soak.records = len(written.played), written.records
    soak.late_s = round(max(one.late_s for one in written.played), 3)
    return written


async def _sample(
    run: Running, soak: Soak, connection: Any, written: Written, every_s: float, until_s: float
) -> None:
    """A look every `every_s`. Raises Unavailable and Changed when worker or engine process have ended."""
    watch = Watch(run.worker.pid)
    began_s = time.monotonic()
    while time.monotonic() < until_s:
        run.check_alive()
        found = await watch.look(connection, written.ends) | {"live_sessions": float(written.live)}
        soak.at_s.append(round(time.monotonic() - began_s, 2))
        for name, value in found.items():
            soak.values.setdefault(name, []).append(value)
        if len(soak.at_s) % 6 == 1:
            _say(
                "%4.0f s: worker %.0f MB, engine %.0f MB, %.0f rows, %.0f records behind, %d sessions played"
                % (
                    soak.at_s[-1],
                    found["worker_rss_mb"],
                    found["engine_rss_mb"],
                    found["rows"],
                    found["lag_records"],
                    len(written.played),
                )
            )
        await asyncio.sleep(max(0.0, began_s + len(soak.at_s) * every_s - time.monotonic()))


async def _settle(run: Running, connection: Any, written: Written) -> float:
    """How long it took until offsets, in the database and in Kafka, are at the end and every row is sent, at most
    `WAIT_S`: what is missing then, the checker finds.
    """
    began_s = time.monotonic()
    while time.monotonic() < began_s + WAIT_S:
        run.check_alive()
        stored = dict(await connection.fetch('SELECT "partition", coalesce(next_offset, 0) FROM partitions'))
        if all(stored.get(p, 0) >= end for p, end in written.ends.items()):
            told, _ = await checker.offsets(
                run.settings.brokers, run.settings.topics.chunks, run.settings.group_id
            )
            committed = all((told.get(p) or 0) >= end for p, end in written.ends.items())
            if committed and not await checker.unpublished(connection):
                break
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s


async def _check(run: Running, soak: Soak, sound: Sound, written: Written) -> None:
    """Read everything and judge it."""
    settings = run.settings
    facts = await checker.gather(run.database_url, settings.brokers, PREFIX, settings.group_id)
    questions = questions_of(settings.checkpoint)
    expected = soak_check.expected_of(written.played, soak.seed, sound, settings, facts, questions)
    expected.ends = written.ends
    soak.idle = len(written.played) - len(expected.ended)
    verdict = checker.judge(expected, facts, marked=False)
    soak.verdict = asdict(verdict) | {"passed": verdict.passed}
    soak.rows = dict(Counter(row[0] for _, row in facts.rows)) | {
        "dead_letter": len(facts.dead),
        "gap": len(facts.gaps),
        "duplicate": len(facts.duplicates),
        "transcript_with_words": sum(row[0] == "transcript" and bool(row[7]) for _, row in facts.rows),
    }
    probes = soak_check.probes_of(written.played, soak.seed, sound)
    soak.texts_compared, soak.texts_differ = soak_check.compare_texts((row for _, row in facts.rows), probes)


def questions_of(checkpoint: Path) -> Any:
    """The closed-set questions that a checkpoint was trained to answer."""
    with safe_open(str(checkpoint), "np") as file:
        return EurekaConfig.from_json(file.metadata()["config"]).questions


def _logged(log: Path) -> dict[str, int]:
    found: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            found["not JSON"] += 1
            continue
        if told.get("level") not in ("debug", "info"):
            found[f"{told.get('level')}: {told.get('message')}"] += 1
    return dict(found)


# ---- the report --------------------------------------------------------------------------------------------------


def reasons(soak: Soak) -> list[str]:
    """Why it did not pass."""
    wrong = [
        f"{f.name} is not steady: {f.last:g}, at most {f.limit:g}" for f in soak.findings if not f.steady
    ]
    figures = {k: v for k, v in soak.verdict.items() if k not in ("expected", "found", "dead", "messages")}
    if not figures.pop("passed"):
        wrong += [f"{name}: {value}" for name, value in figures.items() if value]
    wrong += [f"another text of the same audio: {place}" for place in soak.texts_differ]
    if not soak.texts_compared or not soak.rows["transcript_with_words"]:
        wrong.append("no text was compared with another")
    if soak.exit_status != 0:
        wrong.append(f"the worker ended with status {soak.exit_status}")
    grave = {what: count for what, count in soak.logged.items() if not what.startswith("warning: ")}
    wrong += [f"logged {count} times {what}" for what, count in grave.items()]
    if soak.late_s > LATE_LIMIT_S:
        wrong.append(f"the sender was late by {soak.late_s:g} s: the machine is too busy to tell")
    return wrong


def table(soak: Soak) -> str:
    """The report for people, in Markdown."""
    lines = [
        f"{soak.minutes:g} minutes, {soak.lines} live streams at a time, {soak.sessions} sessions "
        f"({soak.idle} without an end mark), {soak.records} records, seed {soak.seed}, {soak.machine}; rows: "
        + ", ".join(f"{count} {kind}" for kind, count in sorted(soak.rows.items())),
        "",
        "| figure | first | last | most | median of the thirds | per hour | compared | limit | steady |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for f in soak.findings:
        medians = f"{f.median_first:g} / {f.median_second:g} / {f.median_last:g}"
        cells = [f.name, f"{f.begin:g}", f"{f.end:g}", f"{f.most:g}", medians, f"{f.per_hour:+g}"]
        cells += [f"{f.second:g} → {f.last:g}", f"{f.limit:g}", "yes" if f.steady else "NO"]
        lines.append("| " + " | ".join(cells) + " |")
    told = {k: v for k, v in soak.verdict.items() if k not in ("examples", "passed")}
    lines += ["", ", ".join(f"{name} {value}" for name, value in told.items())]
    lines.append(f"texts of the same audio: {soak.texts_compared} compared, {len(soak.texts_differ)} differ")
    lines.append(
        f"settled in {soak.settle_s:g} s, sender late by {soak.late_s:g} s at most, logged: {soak.logged}"
    )
    lines.append("passed" if not soak.wrong else "FAILED: " + "; ".join(map(str, soak.wrong[:20])))
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
