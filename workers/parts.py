"""From the one `Settings` to the configuration of pipeline and engine pool: plain values, so that no part knows
the settings.

In: settings. Out: frozen configurations. Imports no torch and no Kafka.
"""

from streams.audio import AudioLimits
from workers.checkpoints import Promotion
from workers.device import DeviceConfig
from workers.dialog import DialogConfig
from workers.limits import batch_limits, cutter_config
from workers.pipeline import PipelineLimits
from workers.pool import PoolConfig
from workers.session import SessionLimits
from workers.settings import Settings
from workers.spawn import EngineSpec


def audio_limits(settings: Settings) -> AudioLimits:
    """What one chunk may be."""
    return AudioLimits(
        max_bytes=settings.max_chunk_bytes,
        max_decoded_bytes=settings.max_decoded_bytes,
        max_seconds=settings.max_chunk_s,
    )


def pipeline_limits(settings: Settings) -> PipelineLimits:
    """Every bound of the pipeline and its sessions."""
    return PipelineLimits(
        session=SessionLimits(
            audio=audio_limits(settings),
            cutter=cutter_config(settings),
            dialog=DialogConfig(),
            reorder_wait_s=settings.reorder_wait_s,
            reorder_max_held=settings.reorder_max_held,
            dead_letter_bytes=settings.dead_letter_payload_bytes,
            reorder_max_bytes=settings.reorder_max_bytes,
            max_sequence_jump=settings.max_sequence_jump,
            max_jump_s=settings.max_jump_s,
            jump_wait_s=settings.jump_wait_s,
        ),
        max_chunk_bytes=settings.max_chunk_bytes,
        max_inflight_windows=settings.max_inflight_windows,
        max_uncommitted_records=settings.max_uncommitted_records,
        idle_flush_s=settings.idle_flush_s,
        sweep_interval_s=settings.sweep_interval_s,
        sweep_older_than_s=settings.sweep_older_than_s,
        sweep_batch=settings.sweep_limit,
        speech_deadline_s=settings.speech_deadline_s,
        scene_deadline_s=settings.scene_deadline_s,
        live_lag_records=settings.live_lag_records,
        max_sessions=settings.max_sessions,
        max_held_bytes=settings.max_held_bytes,
        retry_first_s=settings.retry_first_s,
        retry_most_s=settings.retry_max_s,
        shed_scenes_after_s=settings.shed_scenes_after_s,
    )


def pool_config(settings: Settings, promotion: Promotion | None = None) -> PoolConfig:
    """Engine processes, their queue and their deadlines; several processes on `cuda` take one device each."""
    return PoolConfig(
        device=DeviceConfig(
            engine=engine_spec(settings, promotion),
            batch_deadline_s=settings.engine_deadline_s,
            max_starts=settings.engine_starts,
            self_test=promotion is not None,
        ),
        devices=device_names(settings.device, settings.engine_processes),
        scheduler=batch_limits(settings),
    )


def engine_spec(settings: Settings, promotion: Promotion | None) -> EngineSpec:
    """What runs in an engine process: the promoted checkpoint, by its digest, or without one the setting's."""
    args = settings.engine_args
    if args is None:
        args = {
            "checkpoint_path": str(settings.checkpoint),
            "compile": None if settings.engine_compile else False,
            "short_buckets": settings.engine_short_buckets,
            "half": None if settings.engine_half else False,
            "threads": settings.engine_threads,
            "expected_sha256": settings.engine_sha256,
            "trust_remote_code": settings.trust_remote_code,
        }
    if promotion is not None:
        assert settings.checkpoints_dir is not None
        args = args | {
            "checkpoint_path": str(promotion.path_in(settings.checkpoints_dir)),
            "expected_sha256": promotion.sha256,
        }
    return EngineSpec(
        factory=settings.engine_factory,
        args=args,
        threads=settings.engine_threads,
        start_deadline_s=settings.engine_warm_up_s,
    )


def device_names(device: str, processes: int) -> tuple[str, ...]:
    """`cuda` with two processes is `cuda:0`, `cuda:1`; any other name is repeated."""
    if device == "cuda" and processes > 1:
        return tuple("cuda:%d" % index for index in range(processes))
    return (device,) * processes
