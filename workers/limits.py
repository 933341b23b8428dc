"""From the one `Settings` to the limits of windows and of the queue, shared by the worker and `eureka transcribe`.

In: settings. Out: plain frozen configurations, so that the parts do not know the settings. Imports no torch
and no Kafka.
"""

from streams.windows import CutterConfig
from workers.scheduler import SchedulerConfig
from workers.settings import Settings


def cutter_config(settings: Settings) -> CutterConfig:
    """How audio is cut. Raises ValueError for values that contradict each other."""
    return CutterConfig(
        vad_mode=settings.vad_mode,
        hang_ms=settings.hang_ms,
        pre_roll_ms=settings.pre_roll_ms,
        post_roll_ms=settings.post_roll_ms,
        min_speech_ms=settings.min_speech_ms,
        max_window_s=settings.max_window_s,
        silence_step_s=settings.silence_step_s,
        scene_hop_s=settings.scene_hop_s,
        scene_min_s=settings.scene_min_s,
        warm_up_s=settings.warm_up_s,
        slack_ms=settings.slack_ms,
    )


def batch_limits(settings: Settings) -> SchedulerConfig:
    """Limits of the queue and of what is under way on one device."""
    return SchedulerConfig(
        max_queued=settings.engine_max_queued,
        max_batch_windows=settings.engine_max_batch,
        background_share=settings.engine_background_share,
    )
