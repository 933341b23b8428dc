"""How fast the engine is, and whether it says the same: against the authors' way, on the same weights and windows.

In: a checkpoint and windows of speech. Out: audio seconds and tokens per second of both at several numbers of windows
at a time, and how many greedy texts are equal. Both sides are measured in one run on as many threads, after a warm-up;
medians over repeats (of ours; theirs is so much longer that once will do). Knows no recordings and no WER.

Two of our ways are measured: `greedy`, where the decoder writes every transcript as it does on the other side (like for
like), and `shipped`, where CTC head and decoder choose together, which is what users get. Tokens are compared on the
same audio embeddings; padding to 30 s changes these, so how many texts that leaves equal is told apart.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model import checkpoint, device
from model.analyst import Window
from model.answers import Request
from model.bench.reference import Reference
from model.checkpoint import Loaded
from model.engine import Engine, at_own_length
from model.features import SAMPLE_RATE_HZ
from model.generate import Job

Audio = npt.NDArray[np.int16]
PENALTIES = (1.0, 1.05)
TASKS = ("transcript",)


@dataclass(frozen=True)
class Row:
    """One way at one number of windows at a time. `ratio`: its audio seconds per second by the authors' way's."""

    way: str
    concurrent: int
    audio_s_per_s: float
    tokens_per_s: float
    ratio: float


@dataclass(frozen=True)
class Report:
    """`token_equal`: of `texts` greedy texts those equal to transformers' on the same audio embeddings or parting at a
    near tie (`near_ties` of them; logits closer than 1e-3); `padded_text_equal`: share equal although they were padded.
    `warm_up_s`: with everything compiled, if it is; run again to see what the kept compilation saves.
    """

    device: str
    threads: int
    windows: int
    audio_s: float
    rows: tuple[Row, ...]
    texts: int
    token_equal: int
    near_ties: int
    padded_text_equal: float
    compiled: bool
    warm_up_s: float


def run(
    path: Path,
    windows: Sequence[Audio],
    asked_device: str = "auto",
    threads: int | None = None,
    concurrent: Sequence[int] = (1, 8, 32),
    repeats: int = 3,
    compile: bool | None = None,
    short_buckets: bool = False,
) -> Report:
    """Measure both sides. Raises CheckpointError, and ValueError without windows.

    short_buckets: ours does not pad to 30 s although the checkpoint wants it; `padded_text_equal` is what that costs.
    """
    if not windows:
        raise ValueError("no windows to measure on")
    threads = threads or torch.get_num_threads()
    # The decoder has as many slots as windows are under way; the joint search needs none.
    greedy = {n: engine(path, asked_device, threads, compile, n, True, short_buckets) for n in concurrent}
    shipped = engine(path, asked_device, threads, compile, None, False, short_buckets)
    widest = greedy[max(concurrent)]
    placement = widest.placement
    loaded = checkpoint.load(path, placement.device, placement.dtype)
    reference = Reference(loaded, placement.device, placement.dtype)
    longest = min(loaded.config.decoding.max_new_tokens, 128)
    audio_s = sum(map(len, windows)) / SAMPLE_RATE_HZ

    torch.set_num_threads(threads)
    reference.transcribe(windows[0], longest, 1.0)
    texts: list[list[int]] = []
    started_s = time.perf_counter()
    for window in windows:
        texts.append(reference.transcribe(window, longest, 1.0))
    theirs_s = elapsed(started_s, placement.device)
    tokens = sum(len(text) + 1 for text in texts)
    rows = [Row("authors", 1, audio_s / theirs_s, tokens / theirs_s, 1.0)]

    warm_up_s = 0.0
    ways = [("greedy", n, greedy[n]) for n in concurrent] + [("shipped", n, shipped) for n in concurrent]
    for way, count, engine_ in ways:
        started_s = time.perf_counter()
        engine_.warm_up()
        warm_up_s = max(warm_up_s, time.perf_counter() - started_s)
        spend(engine_, windows, count)
        spent = statistics.median(spend(engine_, windows, count) for _ in range(repeats))
        written = sum(lengths(engine_, windows, way))
        rows.append(Row(way, count, audio_s / spent, written / spent, theirs_s / spent))

    equal, ties, same_padded = 0, 0, 0
    jobs = greedy_jobs(widest, windows, longest)
    for penalty in PENALTIES:
        sampling = dataclasses.replace(jobs[0].sampling, repetition_penalty=penalty)
        with device.one_thread(placement):
            found = widest.generator.run([dataclasses.replace(j, sampling=sampling) for j in jobs])
        for index, (job, generated) in enumerate(zip(jobs, found, strict=True)):
            embeds_1PO = whole(widest, job)
            other = reference.write(embeds_1PO, job.prompt_ids, longest, penalty)
            cut = other[: len(generated.ids)] if generated.finish == "loop" else other
            compared = reference.compare(embeds_1PO, job.prompt_ids, generated.ids, cut, penalty)
            equal += compared.equal or compared.excused
            ties += compared.excused
            same_padded += penalty == 1.0 and list(generated.ids) == texts[index]
    return Report(
        widest.device,
        threads,
        len(windows),
        audio_s,
        tuple(rows),
        len(jobs) * len(PENALTIES),
        equal,
        ties,
        same_padded / len(windows),
        placement.compile,
        warm_up_s,
    )


def engine(
    path: Path,
    asked: str,
    threads: int,
    compile: bool | None,
    slots: int | None,
    greedy: bool,
    short_buckets: bool,
) -> Engine:
    """An engine as it is shipped, or one whose transcripts the decoder alone writes."""
    placement = device.choose(asked, compile, slots)
    if placement.compile:
        device.keep_compiled()
    loaded = checkpoint.load(path, placement.device, placement.dtype)
    if greedy:
        loaded = _greedy(loaded)
    return Engine(at_own_length(loaded) if short_buckets else loaded, placement, threads)


def _greedy(loaded: Loaded) -> Loaded:
    decoding = dataclasses.replace(
        loaded.config.decoding,
        ctc_weight=0.0,
        speech_threshold=0.0,
        repetition_penalty=1.0,
        min_confidence=0.0,
    )
    config = dataclasses.replace(loaded.config, decoding=decoding)
    loaded.model.config = config
    return dataclasses.replace(loaded, config=config)


def spend(engine_: Engine, windows: Sequence[Audio], count: int) -> float:
    """Seconds for all windows, `count` at a time under way."""
    waiting = [Request(str(i), audio, TASKS) for i, audio in enumerate(windows)][::-1]
    under_way = 0
    started_s = time.perf_counter()
    while waiting or under_way:
        while waiting and under_way < count:
            engine_.submit(waiting.pop())
            under_way += 1
        under_way -= len(engine_.step())
    return elapsed(started_s, engine_.placement.device)


def elapsed(started_s: float, on: torch.device) -> float:
    if on.type == "cuda":
        torch.cuda.synchronize(on)
    return time.perf_counter() - started_s


def lengths(engine_: Engine, windows: Sequence[Audio], way: str) -> list[int]:
    """Tokens of each text, the end included."""
    if way == "greedy":
        with device.one_thread(engine_.placement):
            found = engine_.generator.run(
                greedy_jobs(engine_, windows, engine_.config.decoding.max_new_tokens)
            )
        return [len(one.ids) + 1 for one in found]
    responses = engine_.run([Request(str(i), audio, TASKS) for i, audio in enumerate(windows)])
    return [len(engine_.tokenizer.encode(getattr(r.answers[0], "text", ""))) + 1 for r in responses]


def greedy_jobs(engine_: Engine, windows: Sequence[Audio], longest: int) -> list[Job]:
    """What the engine would decode for each window."""
    with device.one_thread(engine_.placement):
        looked: list[Window | None] = []
        for audio in windows:
            looked += engine_.analyst.look([Request("", audio, TASKS)])
    return [
        dataclasses.replace(window.jobs["transcript"], max_new_tokens=longest)
        for window in looked
        if window is not None
    ]


def whole(engine_: Engine, job: Job) -> Any:
    """The embedded prompt `[1, P, O]`, its shared beginning included."""
    start = job.prompt_ids[: job.prompt_length - len(job.embeds_PD)]
    begin = engine_.model.decoder.embed_tokens(start)
    return torch.cat([begin, job.embeds_PD])[None]
