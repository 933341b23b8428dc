"""Another checkpoint under a running pool and a running worker: no window lost, none twice, each by its own model."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from pathlib import Path

import psutil
import pytest

from streams.errors import Unavailable
from tests.workers import engines
from tests.workers.test_pool import ask, ask_all, is_right, pid_of, pool_of, running, started, until, window
from workers.pool import Analysis, EnginePool
from workers.scheduler import SchedulerConfig
from workers.spawn import EngineSpec


def checkpoint(folder: Path, says: str) -> Path:
    path = folder / (says.replace(" ", "-") + ".weights")
    path.write_text(says)
    return path


def spec_of(path: Path, gate: Path, sha256: str | None = None) -> EngineSpec:
    digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
    args = {"checkpoint_path": str(path), "expected_sha256": digest, "gate": str(gate)}
    return EngineSpec(
        "tests.workers.engines:Versioned", args, threads=1, heartbeat_s=0.1, silence_limit_s=30.0
    )


def versioned(folder: Path, **more: object) -> EnginePool:
    args = {"checkpoint_path": str(checkpoint(folder, "1")), "gate": str(folder / "answer")}
    return pool_of("Versioned", args, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("beside", [True, False])
async def test_a_swap_under_load_loses_no_window_and_names_who_answered(tmp_path: Path, beside: bool) -> None:
    answer, stop = tmp_path / "answer", asyncio.Event()
    async with started(versioned(tmp_path)) as pool:
        old = pid_of(pool)
        held = [window(mark=engines.WAITS, seed=n) for n in range(5)]
        in_flight = asyncio.create_task(ask_all(pool, held))
        await until(lambda: running(pool) == 5)
        answered: list[tuple[Analysis, bool]] = []

        async def load(stream: int) -> None:
            number = 0
            while not stop.is_set():
                asked = window(seed=1000 * stream + number)
                analysis = await ask(pool, asked)
                answered.append((analysis, is_right(analysis, asked)))
                number += 1

        streams = [asyncio.create_task(load(n)) for n in range(1, 5)]
        await until(lambda: len(answered) > 20)
        spec = spec_of(checkpoint(tmp_path, "2 waits"), answer)
        swap = asyncio.create_task(pool.swap(spec, beside=beside, self_test=True))
        if beside:  # the new one answers while the old one still holds windows
            (tmp_path / "gate").touch()
            await until(lambda: any(a.model_version == "2" for a, _ in answered))
            assert not in_flight.done()
            assert psutil.pid_exists(old)
        answer.touch()
        if not beside:  # nobody answers them now
            await until((tmp_path / "pid").exists)
            await until(lambda: pool.health().waiting == len(streams))
            assert not pool.warm
            assert not psutil.pid_exists(old)
            (tmp_path / "gate").touch()
        await swap
        after = await ask(pool, window(seed=9))
        stop.set()
        await asyncio.gather(*streams)
        assert [(a.model_version, is_right(a, w)) for a, w in zip(await in_flight, held, strict=True)] == [
            ("1", True)
        ] * 5
        versions = [a.model_version for a, _ in answered]
        assert all(right for _, right in answered)
        assert {"1", "2"} == set(versions)
        assert (after.model_version, pool.model_version) == ("2", "2")
        assert (running(pool), pool.health().waiting, pool.health().failed) == (0, 0, None)
        await until(lambda: not psutil.pid_exists(old))


CANNOT = [
    ("2 fails", None, "checkpoint 2 fails"),
    ("2", "0" * 64, "another digest"),
    ("2 babbles", None, "self test: 1 words were heard in silence"),
    ("2 shorter", None, "takes 16000 samples, not 480000"),
]


async def test_an_engine_that_cannot_take_over_leaves_the_old_one_at_work(tmp_path: Path) -> None:
    one_lane = SchedulerConfig(max_batch_windows=1)
    async with started(versioned(tmp_path, max_starts=1, scheduler=one_lane)) as pool:
        old = pid_of(pool)
        asked = [window(mark=engines.WAITS), window(seed=1)]  # the second one waits: nobody else may have it
        work = asyncio.create_task(ask_all(pool, asked))
        await until(lambda: (running(pool), pool.health().waiting) == (1, 1))
        for says, sha256, why in CANNOT:
            spec = spec_of(checkpoint(tmp_path, says), tmp_path / "answer", sha256)
            with pytest.raises(Unavailable, match=why):
                await pool.swap(spec, beside=True, self_test=True)
            assert (pid_of(pool), pool.health().devices[0].replaced) == (old, 0)
            assert (pool.model_version, pool.health().waiting) == ("1", 1)
        (tmp_path / "answer").touch()
        assert [(a.model_version, is_right(a, w)) for a, w in zip(await work, asked, strict=True)] == [
            ("1", True)
        ] * 2


@pytest.mark.parametrize("beside", [True, False])
async def test_where_one_device_fails_all_go_back(tmp_path: Path, beside: bool) -> None:
    async with started(versioned(tmp_path, devices=("a", "b"), max_starts=1)) as pool:
        spec = spec_of(checkpoint(tmp_path, "2 fails:b"), tmp_path / "answer")
        with pytest.raises(Unavailable, match="checkpoint 2 fails"):
            await pool.swap(spec, beside=beside, self_test=True)
        await until(lambda: [d.state for d in pool.health().devices] == ["idle", "idle"])
        asked = [window(seed=n) for n in range(20)]
        answers = await ask_all(pool, asked)
        assert {a.model_version for a in answers} == {"1"}
        assert all(is_right(a, w) for a, w in zip(answers, asked, strict=True))


async def test_a_new_process_killed_while_it_warms_up_is_started_again(tmp_path: Path) -> None:
    async with started(versioned(tmp_path)) as pool:
        spec = spec_of(checkpoint(tmp_path, "2 waits"), tmp_path / "answer")
        swap = asyncio.create_task(pool.swap(spec, beside=True, self_test=True))
        pid = tmp_path / "pid"
        await until(lambda: pid.exists() and pid.read_text() != "")
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert (await ask(pool, window())).model_version == "1"
        (tmp_path / "gate").touch()
        await swap
        assert (await ask(pool, window())).model_version == "2"


async def test_windows_of_an_old_process_that_dies_at_last_run_on_the_new_one(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    async with started(versioned(tmp_path)) as pool:
        old = pid_of(pool)
        held = [window(mark=engines.WAITS, seed=n) for n in range(3)]
        work = asyncio.create_task(ask_all(pool, held))
        await until(lambda: running(pool) == 3)
        spec = spec_of(checkpoint(tmp_path, "2"), answer)
        swap = asyncio.create_task(pool.swap(spec, beside=True, self_test=True))
        await until(lambda: pid_of(pool) != old)
        os.kill(old, signal.SIGKILL)
        answer.touch()
        await swap
        answers = await work
        assert {a.model_version for a in answers} == {"2"}
        assert all(is_right(a, w) for a, w in zip(answers, held, strict=True))


async def test_closing_in_the_middle_of_a_swap_leaves_no_process_behind(tmp_path: Path) -> None:
    pool = versioned(tmp_path)
    await pool.start()
    work = asyncio.create_task(ask_all(pool, [window(mark=engines.WAITS)]))
    await until(lambda: running(pool) == 1)
    old = pid_of(pool)
    spec = spec_of(checkpoint(tmp_path, "2"), tmp_path / "answer")
    swap = asyncio.create_task(pool.swap(spec, beside=True, self_test=True))
    await until(lambda: pid_of(pool) != old)  # the old one holds a window that nobody lets go
    new = pid_of(pool)
    await pool.close()
    await asyncio.wait_for(asyncio.gather(swap, return_exceptions=True), 30)
    assert isinstance((await work)[0], Unavailable)
    await until(lambda: not psutil.pid_exists(old) and not psutil.pid_exists(new))
