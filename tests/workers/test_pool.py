"""The engine pool with real processes: answers, deaths, hangs, poison, limits, and what is left behind (nothing)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from model.answers import TextAnswer
from streams.errors import Unavailable
from streams.messages import Origin, SessionKey
from streams.windows import Track, Window
from tests.workers import engines
from workers.device import DeviceConfig
from workers.pool import Analysis, BatchReport, EnginePool, Poison, PoolConfig
from workers.scheduler import SchedulerConfig
from workers.spawn import EngineSpec

TASKS = ("transcript", "questions:speech")
KEY = SessionKey("default", "s", "0")
NANO = Path("model/checkpoints/nano.safetensors")


def window(samples: int = 800, mark: int = 0, seed: int = 0, track: Track = Track.SPEECH) -> Window:
    audio = np.random.default_rng(seed).integers(-32768, 32768, samples).astype(np.int16)
    audio[:1] = mark
    origin = Origin("audio.chunks", 0, seed)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    return Window(KEY, 0, track, 0, samples, audio, origin, (trace,), None, samples)


def pool_of(
    engine: str = "Hashing",
    args: dict[str, Any] | None = None,
    *,
    devices: tuple[str, ...] = ("cpu",),
    scheduler: SchedulerConfig | None = None,
    reports: list[BatchReport] | None = None,
    **device: Any,
) -> EnginePool:
    spec = EngineSpec(
        "tests.workers.engines:%s" % engine,
        args or {},
        threads=1,
        heartbeat_s=0.1,
        silence_limit_s=device.pop("silence_limit_s", 30.0),
    )
    config = PoolConfig(
        DeviceConfig(spec, backoff_first_s=0.01, **device),
        devices,
        scheduler or SchedulerConfig(),
        max_barren_deaths=4,
    )
    return EnginePool(config, on_batch=None if reports is None else reports.append)


@asynccontextmanager
async def started(pool: EnginePool) -> AsyncIterator[EnginePool]:
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


def running(pool: EnginePool) -> int:
    """Windows that have a lane of the first device."""
    return pool.health().devices[0].in_flight


def under_way(log: Path) -> list[tuple[int, int]]:
    """What `Hashing` says of its steps: process and windows in it, whenever that changed."""
    lines = log.read_text().splitlines()
    return [(int(pid), int(windows)) for pid, windows in map(str.split, lines)]


async def ask(pool: EnginePool, asked: Window, *, interactive: bool = True) -> Analysis:
    return await pool.analyse(asked, TASKS, deadline_s=time.monotonic() + 2.0, interactive=interactive)


async def ask_all(pool: EnginePool, asked: list[Window]) -> list[Any]:
    return await asyncio.gather(*(ask(pool, w) for w in asked), return_exceptions=True)


async def until(state: Callable[[], bool], limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not state():  # noqa: ASYNC110 - the state is that of another process
            await asyncio.sleep(0.005)


def heard(analysis: Analysis) -> str:
    answer = analysis.answers[0]
    assert isinstance(answer, TextAnswer)
    return answer.text


def is_right(analysis: Any, asked: Window) -> bool:
    return isinstance(analysis, Analysis) and heard(analysis) == engines.text_of(asked.audio, TASKS)


def state_of(pool: EnginePool, device: int = 0) -> str:
    return pool.health().devices[device].state


def pid_of(pool: EnginePool) -> int:
    pid = pool.health().devices[0].pid
    assert pid is not None
    return pid


async def test_every_window_gets_its_own_answer() -> None:
    reports: list[BatchReport] = []
    async with started(pool_of(reports=reports)) as pool:
        asked = [window(100 + 37 * n, seed=n) for n in range(50)]
        answers = await ask_all(pool, asked)
        assert all(is_right(a, w) for a, w in zip(answers, asked, strict=True))
        assert (answers[0].model_name, answers[0].model_version) == ("hashing", "1")
        assert answers[0].answers[1].probabilities == {"yes": 0.75, "no": 0.25}
        assert pool.questions[0].choices == ("yes", "no")
        health = pool.health()
        assert (health.waiting, health.running, health.failed) == (0, 0, None)
        assert health.devices[0].replaced == 0
    assert sum(len(r.traceparents) for r in reports) == 50
    assert all(len(r.waits_s) == len(r.runs_s) == len(r.traceparents) for r in reports)
    assert all(seconds >= 0 for r in reports for seconds in (*r.waits_s, *r.runs_s))
    assert sum(r.audio_s for r in reports) == pytest.approx(sum(len(w.audio) for w in asked) / 16_000)


async def test_long_windows_come_through_shared_memory_unchanged() -> None:
    async with started(pool_of(scheduler=SchedulerConfig(max_batch_windows=4))) as pool:
        asked = [window(480_000, seed=n) for n in range(6)]
        answers = await ask_all(pool, asked)
        assert all(is_right(a, w) for a, w in zip(answers, asked, strict=True))


async def test_lanes_are_filled_while_others_run_and_never_exceeded(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    scheduler = SchedulerConfig(max_batch_windows=4)
    async with started(pool_of(args={"gate": str(gate), "log": str(log)}, scheduler=scheduler)) as pool:
        long = [asyncio.create_task(ask(pool, window(mark=engines.WAITS, seed=n))) for n in range(3)]
        await until(lambda: running(pool) == 3)
        asked = [window(seed=n) for n in range(8)]
        answers = await ask_all(pool, asked)
        assert all(is_right(a, w) for a, w in zip(answers, asked, strict=True))
        assert not any(task.done() for task in long)
        assert running(pool) == 3
        gate.touch()
        await asyncio.gather(*long)
        assert (running(pool), pool.health().devices[0].answered) == (0, 11)
    assert max(windows for _, windows in under_way(log)) == 4


async def test_the_engine_says_how_many_it_wants_at_a_time(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with started(pool_of(args={"gate": str(gate), "capacity": 2})) as pool:
        work = asyncio.create_task(ask_all(pool, [window(mark=engines.WAITS, seed=n) for n in range(5)]))
        await until(lambda: running(pool) == 2)
        assert pool.health().waiting == 3
        gate.touch()
        assert all(isinstance(a, Analysis) for a in await work)


async def test_a_full_house_of_scenes_leaves_a_lane_for_speech(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    scheduler = SchedulerConfig(max_batch_windows=4)
    async with started(pool_of(args={"gate": str(gate)}, scheduler=scheduler)) as pool:
        scenes = [window(mark=engines.WAITS, seed=n, track=Track.SCENE) for n in range(8)]
        work = asyncio.create_task(ask_all(pool, scenes))
        await until(lambda: running(pool) == 3)
        assert pool.health().waiting == 5
        assert is_right(await ask(pool, window(seed=20)), window(seed=20))
        assert (running(pool), pool.health().waiting) == (3, 5)
        gate.touch()
        assert all(is_right(a, w) for a, w in zip(await work, scenes, strict=True))


async def test_places_are_used_again_and_again_and_no_window_gets_anothers_audio(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    scheduler = SchedulerConfig(max_batch_windows=3, max_queued=400)
    random = np.random.default_rng(7)
    async with started(pool_of(args={"gate": str(gate)}, scheduler=scheduler)) as pool:
        held = window(40_000, mark=engines.WAITS, seed=1000)
        first = asyncio.create_task(ask(pool, held))
        await until(lambda: running(pool) == 1)
        asked = [window(int(n), seed=i) for i, n in enumerate(random.integers(1, 30_000, 300))]
        answers = await ask_all(pool, asked)
        assert all(is_right(a, w) for a, w in zip(answers, asked, strict=True))
        gate.touch()
        assert is_right(await first, held)
        assert pool.health().devices[0].replaced == 0


async def test_two_devices_share_the_work(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    pool = pool_of(
        args={"gate": str(gate)}, devices=("a", "b"), scheduler=SchedulerConfig(max_batch_windows=1)
    )
    async with started(pool):
        asked = [window(mark=engines.WAITS, seed=n) for n in range(4)]
        work = asyncio.create_task(ask_all(pool, asked))
        await until(lambda: [state_of(pool, n) for n in (0, 1)] == ["busy", "busy"])
        gate.touch()
        assert all(is_right(a, w) for a, w in zip(await work, asked, strict=True))


async def test_a_process_killed_at_work_is_replaced_and_its_windows_are_answered(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with started(pool_of(args={"gate": str(gate)})) as pool:
        asked = [window(mark=engines.WAITS, seed=n) for n in range(3)]
        work = asyncio.create_task(ask_all(pool, asked))
        await until(lambda: state_of(pool) == "busy")
        os.kill(pid_of(pool), signal.SIGKILL)
        gate.touch()  # for the next process
        assert all(is_right(a, w) for a, w in zip(await work, asked, strict=True))
        assert pool.health().devices[0].replaced == 1
        assert "SIGKILL" in pool.health().devices[0].detail


async def test_a_stopped_process_is_replaced(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with started(pool_of(args={"gate": str(gate)}, silence_limit_s=1.0)) as pool:
        asked = [window(mark=engines.WAITS, seed=n) for n in range(2)]
        work = asyncio.create_task(ask_all(pool, asked))
        await until(lambda: state_of(pool) == "busy")
        os.kill(pid_of(pool), signal.SIGSTOP)
        gate.touch()
        assert all(is_right(a, w) for a, w in zip(await work, asked, strict=True))
        assert "no sign of life" in pool.health().devices[0].detail


async def test_an_idle_process_that_dies_is_replaced_before_it_is_needed() -> None:
    async with started(pool_of()) as pool:
        await ask(pool, window())
        first = pid_of(pool)
        os.kill(first, signal.SIGKILL)
        await until(lambda: state_of(pool) == "idle" and pid_of(pool) != first)
        assert is_right(await ask(pool, window(seed=4)), window(seed=4))


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        (engines.KILLS, "died (SIGSEGV)"),
        (engines.HANGS, "missed its deadline"),
        (engines.RAISES, "died (exit status 4)"),
    ],
)
async def test_one_poison_window_dies_alone_and_its_bystanders_live(
    mark: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    patience = {"batch_deadline_s": 1.0, "deadline_per_audio_s": 0.0} if mark == engines.HANGS else {}
    async with started(pool_of(scheduler=SchedulerConfig(max_batch_windows=32), **patience)) as pool:
        asked = [window(mark=mark if n == 5 else 0, seed=n) for n in range(32)]
        answers = await ask_all(pool, asked)
        poison = answers[5]
        assert isinstance(poison, Poison)
        assert "alone, twice" in poison.detail
        assert why in poison.detail
        bystanders = [(a, w) for n, (a, w) in enumerate(zip(answers, asked, strict=True)) if n != 5]
        assert all(is_right(a, w) for a, w in bystanders)
        assert pool.health().devices[0].replaced == 3
        assert is_right(await ask(pool, window(seed=99)), window(seed=99))
    assert engines.CANARY not in caplog.text


async def test_those_in_flight_with_a_killer_run_alone_and_those_that_wait_do_not(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    scheduler = SchedulerConfig(max_batch_windows=4)
    async with started(pool_of(args={"gate": str(gate), "log": str(log)}, scheduler=scheduler)) as pool:
        marks = [engines.WAITS, engines.KILLS_LATER, engines.WAITS, engines.WAITS]
        suspects = [window(mark=mark, seed=n) for n, mark in enumerate(marks)]
        work = asyncio.create_task(ask_all(pool, suspects))
        await until(lambda: running(pool) == 4)
        first = pid_of(pool)
        waiting = [window(seed=10 + n) for n in range(8)]
        others = asyncio.create_task(ask_all(pool, waiting))
        await until(lambda: pool.health().waiting == 8)
        gate.touch()
        guilty = (answers := await work).pop(1)
        assert isinstance(guilty, Poison)
        assert "alone, twice" in guilty.detail
        assert all(is_right(a, w) for a, w in zip(answers, suspects[:1] + suspects[2:], strict=True))
        assert all(is_right(a, w) for a, w in zip(await others, waiting, strict=True))
        assert pool.health().devices[0].replaced == 3
    counts = [windows for pid, windows in under_way(log) if pid != first]
    assert counts[:1] == [1]
    assert set(counts) == {1, 4}


async def test_a_lone_window_is_poison_after_two_deaths() -> None:
    async with started(pool_of()) as pool:
        with pytest.raises(Poison, match="alone, twice"):
            await ask(pool, window(mark=engines.KILLS))
        await until(lambda: state_of(pool) == "idle")
        assert pool.health().devices[0].replaced == 2


async def test_a_death_after_company_is_no_lone_death(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    async with started(pool_of(args={"gate": str(gate)})) as pool:
        work = asyncio.create_task(ask(pool, window(mark=engines.KILLS_LATER)))
        await until(lambda: running(pool) == 1)
        await ask(pool, window(seed=1))
        gate.touch()
        with pytest.raises(Poison, match="alone, twice"):
            await work
        await until(lambda: state_of(pool) == "idle")
        assert pool.health().devices[0].replaced == 3


async def test_a_window_that_hangs_is_noticed_although_all_others_are_answered(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    patience = {"batch_deadline_s": 0.4, "deadline_per_audio_s": 0.0}
    async with started(pool_of(args={"gate": str(gate)}, **patience)) as pool:
        stuck = window(mark=engines.WAITS, seed=1000)
        work = asyncio.create_task(ask(pool, stuck))

        async def others() -> None:
            while not work.done():
                assert is_right(await ask(pool, window(seed=1)), window(seed=1))

        beside = asyncio.create_task(others())
        await until(lambda: pool.health().devices[0].replaced == 1)
        assert "left a window behind" in pool.health().devices[0].detail
        gate.touch()  # for the next process
        assert is_right(await work, stuck)
        await beside


async def test_what_the_model_refuses_is_poison_for_that_window_alone() -> None:
    async with started(pool_of()) as pool:
        asked = [window(mark=m, seed=n) for n, m in enumerate([0, engines.REFUSED, engines.NOT_FINITE, 0])]
        answers = await ask_all(pool, [*asked, window(480_001)])
        assert [type(a) for a in answers] == [Analysis, Poison, Poison, Analysis, Poison]
        assert pool.health().devices[0].replaced == 0


async def test_cancelled_windows_give_their_place_back(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    scheduler = SchedulerConfig(max_queued=2, max_batch_windows=1)
    async with started(pool_of(args={"gate": str(gate)}, scheduler=scheduler)) as pool:
        running, queued, outside = (
            asyncio.create_task(ask(pool, window(mark=engines.WAITS, seed=n))) for n in range(3)
        )
        await until(lambda: state_of(pool) == "busy" and pool.health().waiting == 1)
        for task in (running, queued):
            task.cancel()
        await until(lambda: running.done() and queued.done())
        gate.touch()
        assert is_right(await outside, window(mark=engines.WAITS, seed=2))
        assert (pool.health().waiting, pool.health().running) == (0, 0)
        assert pool.health().devices[0].replaced == 0


async def test_the_queue_is_bounded_and_backfill_takes_its_share_only(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    scheduler = SchedulerConfig(max_queued=4, max_batch_windows=1)
    async with started(pool_of(args={"gate": str(gate)}, scheduler=scheduler)) as pool:
        backfill = [
            asyncio.create_task(ask(pool, window(mark=engines.WAITS, seed=n), interactive=False))
            for n in range(6)
        ]
        await until(lambda: pool.health().running == 1 and pool.health().waiting == 1)
        live = [asyncio.create_task(ask(pool, window(seed=10 + n))) for n in range(4)]
        await until(lambda: pool.health().waiting == 3)
        gate.touch()
        await asyncio.gather(*backfill, *live)


async def test_closing_with_work_in_flight_leaves_nothing_behind(tmp_path: Path) -> None:
    files, segments = psutil.Process().num_fds(), set(os.listdir("/dev/shm"))
    pool = pool_of(args={"gate": str(tmp_path / "never")})
    await pool.start()
    work = asyncio.create_task(ask_all(pool, [window(mark=engines.WAITS, seed=n) for n in range(20)]))
    await until(lambda: state_of(pool) == "busy")
    pid = pid_of(pool)
    await pool.close()
    assert all(isinstance(a, Unavailable) for a in await work)
    with pytest.raises(Unavailable):
        await ask(pool, window())
    await until(lambda: not psutil.pid_exists(pid))
    assert psutil.Process().num_fds() <= files
    assert not {s for s in os.listdir("/dev/shm") if s not in segments and "eureka" in s}


async def test_an_engine_that_cannot_be_loaded_fails_the_start_with_its_reason() -> None:
    with pytest.raises(Unavailable, match="the checkpoint for cpu has no decoder"):
        await pool_of("broken").start()


async def test_what_a_library_says_as_it_fails_stays_in_the_process(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unavailable, match=r"ValueError at engines.py:\d+ _fail < ") as raised:
        await pool_of("broken", {"says": engines.CANARY}, max_starts=1).start()
    for told in ("a library logs: ValueError", "thread ended by ValueError at engines.py", "did not start"):
        assert told in caplog.text
    assert engines.CANARY not in caplog.text + str(raised.value)


async def test_an_engine_that_dies_warming_up_fails_the_start() -> None:
    with pytest.raises(Unavailable, match="died"):
        await pool_of("DiesWarming").start()


async def test_a_failed_start_is_tried_again(tmp_path: Path) -> None:
    async with started(pool_of("fails_once", {"marker": str(tmp_path / "marker")})) as pool:
        assert is_right(await ask(pool, window()), window())
        assert pool.health().devices[0].replaced == 1


async def test_a_process_that_never_stays_makes_the_pool_unavailable() -> None:
    async with started(pool_of("DiesIdle")) as pool:
        await until(lambda: pool.health().failed is not None)
        with pytest.raises(Unavailable, match="exit status 9"):
            await ask(pool, window())


async def test_a_broken_device_is_not_blamed_on_the_windows() -> None:
    async with started(pool_of("KillsAlways", scheduler=SchedulerConfig(max_batch_windows=8))) as pool:
        answers = await ask_all(pool, [window(seed=n) for n in range(8)])
        assert all(isinstance(a, Unavailable) for a in answers)
        assert state_of(pool) == "failed"


async def test_the_child_ignores_signals_meant_for_the_worker_and_sees_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:secret@h/d")
    monkeypatch.setenv("EUREKA_SASL_PASSWORD", "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    async with started(pool_of("Surroundings")) as pool:
        pid = pid_of(pool)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        assert is_right(await ask(pool, window()), window())
        assert pid_of(pool) == pid
        names, threads = pool.model_version.split(";")
        assert "PATH" in names.split(",")
        assert not [n for n in names.split(",") if n.startswith(("DATABASE", "EUREKA"))]
        assert threads == "1"


PARENT = """
import asyncio
from tests.workers.test_pool import engines, pid_of, pool_of, ask, state_of, until, window

async def main():
    pool = pool_of(args={"gate": "never"})
    await pool.start()
    work = asyncio.create_task(ask(pool, window(mark=engines.WAITS)))
    await until(lambda: state_of(pool) == "busy")
    print(pid_of(pool), flush=True)
    await work

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_no_orphan_when_the_parent_is_killed(stopped: bool) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        if stopped:
            child.send_signal(signal.SIGSTOP)
        parent.kill()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_the_parent_needs_no_torch() -> None:
    code = "import sys, workers.pool; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_shipped_checkpoint_answers_in_a_process() -> None:
    spec = EngineSpec(args={"checkpoint_path": str(NANO), "compile": False}, threads=1)
    async with started(EnginePool(PoolConfig(DeviceConfig(spec), ("cpu",)))) as pool:
        silence = Window(
            KEY, 0, Track.SPEECH, 0, 16_000, np.zeros(16_000, np.int16), Origin("t", 0, 0), (), None, 0
        )
        analysis = await ask(pool, silence)
        assert heard(analysis) == ""
        assert pool.questions
