"""The settings as limits of the parts: defaults fit together, and what is set arrives."""

from __future__ import annotations

from pathlib import Path

from streams.windows import CutterConfig
from workers.limits import batch_limits, cutter_config
from workers.parts import pool_config
from workers.settings import Settings


def test_the_default_settings_cut_as_the_segmenter_does_by_itself() -> None:
    assert cutter_config(Settings()) == CutterConfig()


def test_the_pool_follows_the_settings() -> None:
    settings = Settings(
        device="cuda",
        engine_processes=2,
        engine_deadline_s=7,
        engine_compile=False,
        engine_max_batch=5,
        engine_background_share=0.5,
        checkpoint=Path("x.safetensors"),
    )
    config = pool_config(settings)
    assert config.devices == ("cuda:0", "cuda:1")
    assert config.device.batch_deadline_s == 7
    assert config.device.engine.args["checkpoint_path"] == "x.safetensors"
    assert config.device.engine.args["compile"] is False
    assert config.scheduler == batch_limits(settings)
    assert (config.scheduler.max_batch_windows, config.scheduler.background_lanes(5)) == (5, 2)


def test_every_window_under_way_finds_room_in_the_queue_even_as_backfill() -> None:
    config = pool_config(Settings())
    assert config.scheduler.max_queued * config.backfill_share >= Settings().max_inflight_windows
