"""Dialog events of a session: overtalk, non-talk and talk share, from the committed transcripts of all its channels.

In: talk intervals (16 kHz session samples) per channel, the position reached so far and how far every
channel is settled.
Out: finished stretches and shares, and the new position. Pure: no clock, no store, no knowledge of who calls when.
Invariant: only stretches whose both ends are known leave here (or the session has ended), so the events are a function
of the transcripts alone, whatever the moments at which `settle` is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

SAMPLE_RATE = 16_000
EVENT_TYPES = ("non_talk", "overtalk", "talk_share")


@dataclass(frozen=True, slots=True)
class DialogConfig:
    """Limits of the dialog track, in 16 kHz samples."""

    overtalk_min: int = SAMPLE_RATE // 2
    non_talk_min: int = 3 * SAMPLE_RATE
    share_every: int = 60 * SAMPLE_RATE
    trim_start: int = SAMPLE_RATE * 3 // 10  # a window's pre-roll is not talk
    trim_end: int = SAMPLE_RATE * 2 // 10  # nor is its post-roll


@dataclass(frozen=True, slots=True)
class Talk:
    """A stretch of `[start, end)` samples in which `channel` spoke."""

    channel: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One dialog event: `overtalk` and `non_talk` concern the session (channel None), `talk_share` one channel."""

    event_type: str
    channel: int | None
    start: int
    end: int
    value: float
    unit: str


def settle(
    talks: Sequence[Talk], channels: int, position: int, settled: int, *, ended: bool, config: DialogConfig
) -> tuple[list[Finding], int]:
    """Report what has become certain between `position` and `settled`; return it with the new position.

    `talks` must hold every interval that reaches past the start of the share period in which `position` lies.
    A stretch of silence or overtalk that still touches `settled` stays open (the position waits at its
    start) unless `ended`.
    """
    trimmed = [
        Talk(t.channel, t.start + config.trim_start, t.end - config.trim_end)
        for t in talks
        if t.end - config.trim_end > t.start + config.trim_start
    ]
    findings: list[Finding] = []
    reached = settled
    for start, end, speakers in _stretches(trimmed, position, settled):
        if end == settled and not ended and speakers != 1:
            reached = start
            break
        if speakers == 0 and end - start >= config.non_talk_min:
            findings.append(Finding("non_talk", None, start, end, (end - start) / SAMPLE_RATE, "s"))
        elif speakers > 1 and end - start >= config.overtalk_min:
            findings.append(Finding("overtalk", None, start, end, (end - start) / SAMPLE_RATE, "s"))
    findings.extend(_shares(trimmed, channels, position, reached, ended, config.share_every))
    return findings, reached


def share_start(position: int, config: DialogConfig) -> int:
    """First sample of the talk-share period in which `position` lies."""
    return position // config.share_every * config.share_every


def _stretches(talks: Sequence[Talk], start: int, end: int) -> list[tuple[int, int, int]]:
    """Maximal `(start, end, kind)` stretches of `[start, end)`; kind is 0, 1 or 2 (two or more) speaking channels."""
    edges = sorted({start, end, *(p for t in talks for p in (t.start, t.end) if start < p < end)})
    stretches: list[tuple[int, int, int]] = []
    for left, right in pairwise(edges):
        kind = min(2, len({t.channel for t in talks if t.start <= left and right <= t.end}))
        if stretches and stretches[-1][2] == kind:
            stretches[-1] = (stretches[-1][0], right, kind)
        else:
            stretches.append((left, right, kind))
    return stretches


def _shares(
    talks: Sequence[Talk], channels: int, position: int, reached: int, ended: bool, every: int
) -> list[Finding]:
    """Talk share of each channel in every period that ends in `(position, reached]`, and in the last,
    shorter one of a session. A period in which nobody spoke has none: a gap may be of any length.
    """
    findings = []
    spoken_in = {p for t in talks for p in range(t.start // every, -(-t.end // every))}
    for start in sorted(period * every for period in spoken_in):
        if not position // every * every <= start < reached or (start + every > reached and not ended):
            continue
        end = min(start + every, reached)
        for channel in range(channels):
            spoken = sum(max(0, min(t.end, end) - max(t.start, start)) for t in talks if t.channel == channel)
            findings.append(
                Finding("talk_share", channel, start, end, round(spoken / (end - start), 4), "ratio")
            )
    return findings
