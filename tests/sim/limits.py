"""Limits of the simulated workers: small, so that a few seconds of audio meet many of them. Plain values.

In: a seed. Out: the limits that its workers have: every second seed has less memory than its input wants.
"""

from __future__ import annotations

import random
from dataclasses import replace

from streams.audio import AudioLimits
from streams.windows import CutterConfig
from workers.dialog import DialogConfig
from workers.pipeline import PipelineLimits
from workers.session import SessionLimits

TOPIC = "audio.chunks"
CUTTER = CutterConfig(max_window_s=4, silence_step_s=2, scene_hop_s=3)
LIMITS = PipelineLimits(
    session=SessionLimits(
        audio=AudioLimits(),
        cutter=CUTTER,
        dialog=DialogConfig(non_talk_min=16_000, share_every=4 * 16_000),
        reorder_wait_s=1.0,
        reorder_max_held=64,
        dead_letter_bytes=100,
    ),
    max_chunk_bytes=1 << 16,
    max_inflight_windows=6,
    max_uncommitted_records=25,
    idle_flush_s=8.0,
    sweep_interval_s=2.0,
    sweep_older_than_s=1.0,
    sweep_batch=20,
    speech_deadline_s=5.0,
    scene_deadline_s=30.0,
    live_lag_records=50,
    retry_most_s=1.0,
)
AMPLE_BYTES = LIMITS.max_held_bytes
AMPLE_SESSIONS = LIMITS.max_sessions
ONE_RECORD_WINDOWS = (
    8  # what one record may complete: two channels, two tracks, the end of a run and a window before
)


def limits_of(seed: int) -> PipelineLimits:
    """What the workers of a seed may hold."""
    rng = random.Random(f"limits {seed}")
    if rng.random() < 0.5:
        return LIMITS
    return replace(
        LIMITS,
        max_inflight_windows=rng.choice([1, 2, LIMITS.max_inflight_windows]),
        max_sessions=rng.choice([1, 2, 3, AMPLE_SESSIONS, AMPLE_SESSIONS]),
        max_held_bytes=rng.choice([150_000, 300_000, AMPLE_BYTES, AMPLE_BYTES]),
    )


def flushes(limits: PipelineLimits) -> bool:
    """Whether a session may be flushed to make room for others."""
    return limits.max_sessions < AMPLE_SESSIONS or limits.max_held_bytes < AMPLE_BYTES
