"""Rows of the fault table about what the workers depend on: broker and database that stop, die, fill up or forget.

Each act produces its script, strikes the server at a state of the database, brings it back and leaves a worker running
that can finish; the common check follows. A worker that ends with a failure is started again, as a supervisor would.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from tests.faults import checker
from tests.faults.run import Failed, Run
from tests.faults.script import Script, marked, next_voice, say, session, speech, usual
from tests.servers.postgres import execute
from workers.kafka_admin import create_topics
from workers.settings import Settings

MEMORY_MB = 64.0  # what may come on top while a dependency is away
DISK_MB = 48
TABLESPACE = "faults_small_disk"


async def stop_broker(run: Run) -> None:
    """A clean stop of the broker in the middle, and a start."""
    await _broker_away(run, signal.SIGTERM)


async def kill_broker(run: Run) -> None:
    """Kill -9 of the broker in the middle, and a start."""
    await _broker_away(run, signal.SIGKILL)


async def _broker_away(run: Run, number: signal.Signals) -> None:
    await run.produce()
    run.supervised = True
    run.start()
    await run.reach(random.Random(run.seed).randint(4, 10))
    run.stage.kafka.stop(number)
    run.stage.kafka.start()
    base, since_s = await run.progress(), time.monotonic()
    await run.recovered(base, since_s)


async def restart_postgres(run: Run) -> None:
    """A fast shutdown of the database in the middle, and a start."""
    await _postgres_away(run, signal.SIGINT)


async def kill_postgres(run: Run) -> None:
    """Kill -9 of the database server in the middle, and a start."""
    await _postgres_away(run, signal.SIGKILL)


async def _postgres_away(run: Run, number: signal.Signals) -> None:
    await run.produce()
    run.supervised = True
    run.start()
    await run.reach(random.Random(run.seed).randint(4, 10))
    run.stage.postgres.stop(number)
    run.stage.postgres.start()
    base, since_s = await run.progress(), time.monotonic()
    await run.recovered(base, since_s)


async def postgres_outage(run: Run) -> None:
    """The database is away for a while: nothing more is read, memory stays bounded, then work goes on."""
    await run.produce()
    worker = run.start()
    await run.reach(random.Random(run.seed).randint(4, 8))
    before_mb = worker.rss_mb()
    run.stage.postgres.stop(signal.SIGINT)
    began_s = time.monotonic()
    read: list[int] = []

    async def over() -> bool:
        read.append(await run.committed())
        return time.monotonic() - began_s >= run.outage_s

    await run.until("the outage is over", over, run.outage_s + 60)
    peak_mb, total = worker.peak_rss_mb, sum(run.ends().values())
    if not worker.said("waiting for a dependency"):
        raise Failed(f"the worker did not notice\n{run.tail()}")
    run.stage.postgres.start()
    base, since_s = await run.progress(), time.monotonic()
    await run.recovered(base, since_s)
    later = read[len(read) // 2 :]
    run.notes.more |= {"outage s": run.outage_s, "read during it": later[-1], "of": total}
    if later[0] != later[-1] or later[-1] >= total:
        raise Failed(f"consumption went on without a database: {read} of {total}")
    if peak_mb > before_mb + MEMORY_MB:
        raise Failed(f"memory grew from {before_mb:.0f} to {peak_mb:.0f} MB")


async def fill_disk(run: Run) -> None:
    """The disk of the database (a small tmpfs of its own) is full: nothing is settled until there is room again."""
    await run.produce()
    worker = run.start()
    await run.reach(random.Random(run.seed).randint(3, 6))
    disk = Path((run.folder / "disk").read_text())
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as sink:
        while True:
            sink.write(bytes(4096))

    async def noticed() -> bool:
        return worker.said("waiting for a dependency") >= 2

    await run.until("the disk is full", noticed)
    stored = await run.progress()
    seen = worker.said("waiting for a dependency")

    async def tried_again() -> bool:
        return worker.said("waiting for a dependency") >= seen + 3

    await run.until("more tries", tried_again)
    if worker.status is not None or not any("DiskFull" in str(line) for line in worker.lines()):
        raise Failed(f"not a full disk\n{run.tail()}")
    run.notes.more["progress that still fitted"] = await run.progress() - stored
    ballast.unlink()
    base, since_s = await run.progress(), time.monotonic()
    await run.recovered(base, since_s)


@contextlib.contextmanager
def small_disk(run: Run) -> Iterator[str]:
    """A tmpfs of DISK_MB with a tablespace of the server on it. Raises OSError where this machine forbids it."""
    disk = run.stage.folder / f"disk-{run.database}"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=755", "faults", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise OSError("no small disk can be mounted here: %s" % mounted.stderr.strip())
    try:
        run.stage.postgres.give(disk / "space")
        (run.folder / "disk").write_text(str(disk))
        yield str(disk / "space")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


async def open_on_small_disk(run: Run, space: str) -> None:
    """The run's database in a tablespace there; the log of the server stays where it is."""
    await execute(run.stage.postgres.url, f"CREATE TABLESPACE {TABLESPACE} LOCATION '{space}'")
    await run.open(TABLESPACE)


async def wipe_broker(run: Run) -> None:
    """All is settled; then the broker loses all it had. Old sessions sent again are known, new ones are heard."""
    old = list(run.script.in_order())
    run.supervised = True
    await run.produce(old)
    run.start()
    await run.settle()
    run.kept = (
        await checker.gather(run.url, run.stage.kafka.address, run.prefix, run.settings["group_id"])
    ).messages
    run.stage.wipe_kafka()
    await create_topics(Settings(**run.settings))
    run.past, run.written = run.written, []
    resent = run.script.again([line for line in old if line.session and line.session.stream_id == "s2"])
    say(run.script, run.seed + 7, 10.0, session("s0", run.seed, 1), start_s=60.0)
    say(run.script, run.seed + 8, 8.0, session("s4", run.seed, 1), start_s=60.0)
    base, since_s = await run.progress(), time.monotonic()
    await run.produce([*resent, *[line for line in run.script.in_order() if line not in old]])
    await run.recovered(base, since_s)
    await run.settle()
    lost = await run.ask("SELECT count(*) FROM lost_ranges WHERE reason = 'cluster_changed'")
    run.notes.more["ranges recorded as lost"] = lost
    if not lost:
        raise Failed("the loss is not on record")


async def grow_partitions(run: Run) -> None:
    """The topic gets another partition: a stream that moves there is refused by name, a new one there is heard."""
    run.supervised = True
    first = list(run.script.in_order())
    await run.produce(first)
    worker = run.start()
    await run.settle()
    worker.signal(signal.SIGTERM)

    async def gone() -> bool:
        return worker.status is not None

    await run.until("the worker's end", gone, workers_may_end=True)
    admin = AIOKafkaAdminClient(bootstrap_servers=run.stage.kafka.address)
    await admin.start()
    try:
        await admin.create_partitions({run.topic: NewPartitions(3)})
    finally:
        await admin.close()
    moved = marked(speech(run.seed + 5, 4.0), next_voice(run.script))
    run.script.speak(session("s0", run.seed, 1), moved, start_s=60.0, stray_on=2)
    run.script.partitions = 3
    say(run.script, run.seed + 6, 8.0, session("s7", run.seed), start_s=60.0)  # crc32 puts s7 on partition 2
    base, since_s = await run.progress(), time.monotonic()
    await run.produce([line for line in run.script.in_order() if line not in first])
    worker = run.start()
    await run.recovered(base, since_s)
    await run.settle()
    if not worker.said("topic"):
        raise Failed("the worker did not say that the partition count changed")


def long(seed: int) -> Script:
    """More than fits into what may be read ahead."""
    return usual(seed, seconds=60.0)


def short(seed: int) -> Script:
    """Settled within seconds."""
    return usual(seed, seconds=12.0)
