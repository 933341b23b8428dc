"""Rows of the fault table about our own processes: workers and engine processes that die, hang, stop, come and go.

Each act produces its script, does the damage at a place or at a state, and leaves a worker running that can finish; the
common check follows. What a row checks beyond that is in its act.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Sequence

from tests.faults.mark import HANGS_ONCE, KILLS, KILLS_ONCE, STOPS_ONCE
from tests.faults.process import Worker
from tests.faults.run import Failed, Run
from tests.faults.script import RATE, Script, usual

GRACE_OF_FAUST_S = 10.0  # what the worker gives Faust to stop, on top of its own grace


def crash_points(seed: int) -> list[str]:
    """Every declared point, in an order in which each can be reached; how often it is passed first is seeded."""
    rng = random.Random(seed)
    most = {
        "after_bind": 1,
        "after_assign": 2,
        "after_load": 2,
        "after_answer": 8,
        "before_pg_commit": 4,
        "in_pg_commit": 4,
        "after_pg_commit": 4,
        "in_sweep": 1,
        "before_publish": 4,
        "mid_publish": 4,
        "after_publish": 4,
        "before_mark": 4,
        "after_mark": 4,
    }
    return [f"{point}:{rng.randint(1, times)}" for point, times in most.items()]


async def kill_worker(run: Run) -> None:
    """Kill -9 at every named crash point, one life after the other."""
    await kill_at(run, crash_points(run.seed))


async def kill_at(run: Run, places: Sequence[str]) -> None:
    """Kill -9 at these places, one life after the other; a last life finishes."""
    await run.produce()
    run.notes.declared = len(places)
    base, since_s = 0, 0.0
    for place in places:
        worker = run.start(place)
        if run.hits:
            await _recovers_or_dies(run, worker, base, since_s)
        await _gone(run, worker, f"death at {place}")
        if worker.status != -signal.SIGKILL:
            raise Failed(f"{place}: ended with {worker.status}\n{run.tail()}")
        base, since_s = await run.progress(), time.monotonic()
        run.notes.hit = len(run.hits)
    run.start()
    await run.recovered(base, since_s)


async def _recovers_or_dies(run: Run, worker: Worker, base: int, since_s: float) -> None:
    """Note how long the next life took to commit something, if it lived as long."""

    async def decided() -> bool:
        return worker.status is not None or await run.progress() > base

    await run.until("a sign of the next life", decided, workers_may_end=True)
    if await run.progress() > base:
        run.notes.recovery_s.append(time.monotonic() - since_s)


async def _gone(run: Run, worker: Worker, what: str) -> None:
    async def gone() -> bool:
        return worker.status is not None

    await run.until(what, gone, workers_may_end=True)


def engine_dies(seed: int) -> Script:
    """Two places of the first stream at which the engine process dies, once each."""
    return usual(seed, actions={5 * RATE: KILLS_ONCE, 13 * RATE: KILLS_ONCE})


async def kill_engine(run: Run) -> None:
    """The child dies with windows in flight: they run again, none is a dead letter, the worker goes on."""
    await run.produce()
    worker = run.start()
    await _met(run, 1)
    base, since_s = await run.progress(), time.monotonic()
    await run.recovered(base, since_s)
    await run.settle()
    run.notes.more["engine processes"] = len({pid for pid, *_ in run.answered()})
    if run.notes.more["engine processes"] < 2 or worker.status is not None:
        raise Failed(f"no engine process was replaced: {run.notes.more}")


def poison(seed: int) -> Script:
    """One window, of the scene alone, that no engine process survives: it lies in the quiet before the first word."""
    return usual(seed, actions={RATE // 5: KILLS})


async def poison_window(run: Run) -> None:
    """One poison window among all the others: a dead letter, and nobody else's."""
    await run.produce()
    worker = run.start()
    await run.settle()
    expected = run.expected()
    others = sum(row[0] != "event" for row in expected.rows.values())
    run.notes.more["good windows beside it"] = others
    poisoned = [letter for letter in expected.dead if letter[2] == "poison"]
    if len(poisoned) != 1 or others < 31 or worker.status is not None:
        raise Failed(f"not one poison window among 31 good ones: {len(poisoned)} and {others}")


def engine_hangs(seed: int) -> Script:
    """One place at which the engine process is stopped, one at which it never answers though its heart beats."""
    return usual(seed, actions={5 * RATE: STOPS_ONCE, 13 * RATE: HANGS_ONCE})


async def hang_engine(run: Run) -> None:
    """The child is killed at its deadline; the worker keeps its place in the group meanwhile."""
    await run.produce()
    worker = run.start()
    for hang in (1, 2):
        await _met(run, hang)
        base, since_s = await run.progress(), time.monotonic()
        await run.recovered(base, since_s)
    await run.settle()
    # Epochs are counted over all partitions: as many as there are partitions, when each was taken once.
    again = await run.ask("SELECT max(epoch) - count(*) FROM partitions")
    run.notes.more["partitions taken again"] = again
    if again != 0 or worker.status is not None:
        raise Failed(f"the worker lost its place in the group\n{run.tail()}")


async def _met(run: Run, marks: int) -> None:
    async def met() -> bool:
        return len(list(run.folder.glob("met-*"))) >= marks

    await run.until(f"{marks} marks met by the engine", met)


async def slow_engine(run: Run) -> None:
    """Throttled: the engine never has more than its cap, memory stays, lag shows, work leaves in stream order."""
    await run.produce()
    worker = run.start()
    await run.reach(10)
    begin_mb, end, lags = worker.rss_mb(), sum(run.ends().values()), []
    peak_mb = begin_mb
    for rows in range(14, 40, 4):
        await run.reach(rows)
        lags.append(end - await run.committed())
        peak_mb = max(peak_mb, worker.rss_mb())
    await run.settle()
    under_way = max(n for *_, n in run.answered())
    back = await run.ask(
        "SELECT count(*) FROM (SELECT start_sample < lag(start_sample) OVER (PARTITION BY tenant_id, stream_id,"
        " session_id, channel ORDER BY id) AS back FROM transcripts) AS found WHERE back"
    )
    run.notes.more |= {
        "windows in the engine": under_way,
        "lag at first": lags[0],
        "growth MB": round(peak_mb - begin_mb, 1),
    }
    if under_way > run.settings["engine_max_batch"] or lags[0] <= 0 or back:
        raise Failed(f"cap, lag or order: {run.notes.more}, {back} rows back in time")
    if peak_mb > begin_mb + 24:
        raise Failed(f"memory grew from {begin_mb:.0f} to {peak_mb:.0f} MB")


async def rebalance_storm(run: Run) -> None:
    """A second worker joins and leaves, by SIGTERM and by kill -9 in turn; work goes on in every round."""
    await run.produce()
    steady = run.start()
    await run.reach(2)
    for number in range(4):
        base, since_s, epochs = await run.progress(), time.monotonic(), await _epochs(run)
        guest = run.start()

        async def joined(guest: Worker = guest, epochs: int = epochs) -> bool:
            return guest.said("worker ready") > 0 and await _epochs(run) > epochs

        await run.until("the guest has joined", joined)
        await run.recovered(base, since_s)
        guest.signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
        await _gone(run, guest, "the guest's end")
        if steady.status is not None or guest.status != (0 if number % 2 else -signal.SIGKILL):
            raise Failed(f"ended with {steady.status} and {guest.status}\n{run.tail()}")
    run.workers.remove(steady)
    run.workers.append(steady)  # the one whose end would be noticed
    run.notes.more["takeovers of a partition"] = await run.ask("SELECT max(epoch) FROM partitions")


async def _epochs(run: Run) -> int:
    return int(await run.ask("SELECT coalesce(sum(epoch), 0) FROM partitions"))


async def zombie(run: Run) -> None:
    """A worker is stopped just before a commit, another takes over; what the first then writes must be refused."""
    await run.produce()
    run.notes.declared = 1
    stopped = run.start(f"before_pg_commit:{random.Random(run.seed).randint(3, 9)}", signal.SIGSTOP)

    async def hit() -> bool:
        return bool(run.hits)

    await run.until("the worker stands still", hit)
    run.notes.hit = len(run.hits)
    base, since_s = await run.progress(), time.monotonic()
    successor = run.start()
    await run.recovered(base, since_s)
    stopped.signal(signal.SIGCONT)

    async def tried() -> bool:
        return len(run.hits) > 1

    await run.until("the zombie tries to write", tried, workers_may_end=True)
    run.notes.more["its write"] = run.hits[1]
    if run.hits[1] != "Fenced":
        raise Failed(f"the zombie was not refused\n{run.tail()}")
    run.workers.remove(successor)
    run.workers.append(successor)


async def terminate(run: Run) -> None:
    """SIGTERM with work in flight: status 0 within the grace, and little is done twice."""
    await run.produce()
    worker = run.start()
    await run.reach(random.Random(run.seed).randint(10, 20))
    since_s = time.monotonic()
    worker.signal(signal.SIGTERM)
    in_engine = run.answered()[-1][3]
    await _gone(run, worker, "the worker's end")
    took_s = time.monotonic() - since_s
    if worker.status != 0 or took_s > run.settings["drain_grace_s"] + GRACE_OF_FAUST_S:
        raise Failed(f"status {worker.status} after {took_s:.1f} s\n{run.tail()}")
    base, since_s = await run.progress(), time.monotonic()
    run.start()
    await run.recovered(base, since_s)
    await run.settle()
    twice = sum(n - 1 for n in Counter((task, digest) for _, task, digest, _ in run.answered()).values())
    run.notes.more |= {
        "in the engine": in_engine,
        "stopped in s": round(took_s, 2),
        "windows done twice": twice,
    }
    if twice > run.settings["max_inflight_windows"]:
        raise Failed(f"{twice} windows were done twice")
