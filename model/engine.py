"""The engine: windows of audio in, transcripts, captions and choice probabilities out, many at a time.

In: `Request`s with 16 kHz int16 audio of up to 30 s, at any moment. Out: a `Response` each, as soon as it is complete.
Knows no stream, no Kafka, no process. Invariants: a window is encoded once, whatever is asked of it; a text depends on
its own window alone; a request that cannot be answered gets an `error` and its neighbours their answers; of what waits
the earliest due is looked at first, and where transcripts are decoded captions hold at most half of the slots, so a
transcript waits for no caption.

`step` is one turn of the wheel: windows that wait are looked at (`model.analyst`), freed slots are filled, every slot
decodes a token (`model.generate`). On a CPU each window is looked at by itself, on one of `threads` threads, and a text
is the same to the last bit in any company. On a GPU windows are looked at together, in bf16, where company may still
change the last bit.
"""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from model import checkpoint, device, half
from model.analyst import Analyst, Window
from model.answers import Answer, ChoiceAnswer, Question, Request, Response, TextAnswer, Word
from model.checkpoint import Loaded
from model.device import Placement
from model.features import CHUNK_FRAMES, HOP_SAMPLES, SAMPLE_RATE_HZ
from model.generate import KEY_STEP, Generator, Job

__all__ = ["Answer", "ChoiceAnswer", "Engine", "Question", "Request", "Response", "TextAnswer", "Word"]

log = logging.getLogger(__name__)

MAX_SAMPLES = CHUNK_FRAMES * HOP_SAMPLES  # 30 s
LOOK_SAMPLES_STEP = 2 * SAMPLE_RATE_HZ  # windows that are encoded together differ by less
LONGEST_WAIT_S = 0.01  # for helper threads, before work that has come may be submitted
WINDOWS_AHEAD = 2  # per slot or thread: what is worth having at hand


# What a helper thread has looked at, or what it failed with.
Looked = tuple[list[Request], list[Window | None], Exception | None]


@dataclass(order=True)
class Waiting:
    """What waits, by due time and then by arrival."""

    due_s: float
    arrival: int
    what: Request | tuple[Window, str] = field(compare=False)


class Engine:
    def __init__(self, loaded: Loaded, placement: Placement, threads: int | None = None) -> None:
        """The engine takes the model over, and may change its layers for the placement (`model.half`)."""
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.config = loaded.config
        self.placement = placement
        self.threads = threads or device.default_threads()
        self.name = loaded.config.name
        self.version = f"{loaded.config.version}+{loaded.sha256[:8]}"
        self.device = str(placement.device)
        self.questions = loaded.config.questions
        self.max_samples = MAX_SAMPLES
        if placement.on_cpu:
            device.keep_few_kernels()
        if placement.half:
            half.products(self.model)
        with device.one_thread(placement):
            self.analyst = Analyst(self.model, self.tokenizer, self.config, placement)
        ids = self.config.tokens
        capacity = self.analyst.longest_prompt(MAX_SAMPLES) + self.config.decoding.max_new_tokens
        capacity = -(-capacity // KEY_STEP) * KEY_STEP
        self.generator = Generator(
            self.model.decoder,
            (ids.im_end, ids.endoftext),
            placement.slots,
            capacity,
            placement.compile,
            together=placement.windows > 1,
        )
        self.capacity = WINDOWS_AHEAD * max(placement.slots, self.threads)
        # Called with request id, task and token id as the decoder writes; what CTC takes part in comes whole.
        self.on_token: Callable[[str, str, int], None] | None = None
        self._arrivals = itertools.count()
        self._requests: list[Waiting] = []
        self._jobs: list[Waiting] = []
        self._looked_at: queue.SimpleQueue[Looked] = queue.SimpleQueue()
        self._helpers: list[Future[None]] = []
        self._taking = threading.Lock()  # of `_requests` and `_stopped`
        self._stopped = False
        self._unanswered = 0
        self._decoding = {"transcript": 0, "caption": 0}
        self._done: list[Response] = []
        # On several threads of a CPU, windows are looked at while this one decodes; on one, and on a GPU, in turn.
        self._helping = self.threads if placement.on_cpu and self.threads > 1 else 0
        self._executor = ThreadPoolExecutor(max(1, self._helping), "look", initializer=_alone)
        # Where transcripts are decoded too, captions hold at most half of the slots.
        decoded = not (self.config.ctc and self.config.decoding.ctc_weight)
        self._caption_slots = max(1, placement.slots // 2) if decoded else placement.slots

    @classmethod
    def open(
        cls,
        checkpoint_path: Path,
        device: str = "auto",
        compile: bool | None = None,
        threads: int | None = None,
        slots: int | None = None,
        expected_sha256: str | None = None,
        trust_remote_code: bool = False,
        half: bool | None = None,
        short_buckets: bool = False,
    ) -> Engine:
        """Load a checkpoint onto a device. Raises CheckpointError, or ValueError for a device that is not there.

        short_buckets: encode windows at their own length although the checkpoint wants 30 s; its texts may change
        (`eureka bench engine --short-buckets` tells how many do).
        """
        placement = _choose(device, compile, slots, half)
        if placement.compile:
            _keep_compiled()
        loaded = checkpoint.load(
            Path(checkpoint_path), placement.device, placement.dtype, expected_sha256, trust_remote_code
        )
        if short_buckets and loaded.config.pad_to_30s:
            log.warning("windows are encoded at their own length, which this checkpoint was not trained for")
            loaded = at_own_length(loaded)
        return cls(loaded, placement, threads)

    def warm_up(self) -> None:
        """Run every path once, so that the first real window pays for no compilation."""
        with device.one_thread(self.placement):
            self.analyst.warm_up()
            self.generator.warm_up()
        tasks = ("transcript", "caption", *(f"question:{question.name}" for question in self.questions))
        noise = np.random.default_rng(0).normal(0, 500, SAMPLE_RATE_HZ).astype(np.int16)
        self.run([Request("warm-up", noise, tasks)])

    @property
    def busy(self) -> bool:
        """Whether something submitted has not been answered by `step` yet."""
        return self._unanswered > 0

    def submit(self, request: Request) -> None:
        """Take a request on. A bad one is answered with its error by the next `step`."""
        self._unanswered += 1
        if refusal := self._refusal(request):
            self._done.append(Response(request.request_id, (), refusal))
        else:
            with self._taking:
                heapq.heappush(self._requests, Waiting(request.due_s, next(self._arrivals), request))

    def step(self) -> list[Response]:
        """One turn: look at windows, fill free slots, decode a token in each. What has been completed by it.

        An exception out of here leaves the engine unusable.
        """
        with device.one_thread(self.placement):
            if self._helping:
                self._call_helpers()
                idle = not (self._slots_taken or self._jobs or self._done)
                if idle and self.busy:  # not for long: work that comes meanwhile is for an idle helper
                    with suppress(queue.Empty):
                        self._receive(self._looked_at.get(timeout=LONGEST_WAIT_S))
                while not self._looked_at.empty():
                    self._receive(self._looked_at.get())
            elif batch := self._take():
                self._looked(batch, self._look(batch))
            self._fill_slots()
            for (window, task), generated in self.generator.step():
                self._decoding[task] -= 1
                self.analyst.finish(window, task, generated)
                self._complete(window)
        done, self._done = self._done, []
        self._unanswered -= len(done)
        return done

    def run(self, requests: Sequence[Request]) -> list[Response]:
        """Answer all of these, and nothing else: one response each, in their order."""
        if self.busy:
            raise RuntimeError("requests are under way already")
        for index, request in enumerate(requests):
            self.submit(Request(str(index), request.audio, request.tasks, request.due_s))
        found: dict[int, Response] = {}
        while len(found) < len(requests):
            found |= {int(response.request_id): response for response in self.step()}
        return [
            Response(request.request_id, found[index].answers, found[index].error)
            for index, request in enumerate(requests)
        ]

    @property
    def _slots_taken(self) -> bool:
        return self.generator.free < self.placement.slots

    def _refusal(self, request: Request) -> str:
        """Why a request cannot be answered; empty when it can."""
        audio = request.audio
        if audio.dtype != np.int16 or audio.ndim != 1:
            return f"audio must be int16 of one dimension, not {audio.dtype} of {audio.ndim}"
        if not 0 < len(audio) <= self.max_samples:
            return f"audio of {len(audio)} samples; 1 to {self.max_samples} are possible"
        unknown = [task for task in request.tasks if not self.analyst.expand(task)]
        return f"unknown task {', '.join(unknown)}" if unknown else ""

    def _next_batch(self) -> list[Request]:
        """The window that is due first and, where windows are looked at together, others of its length."""
        batch: list[Request] = []
        passed: list[Waiting] = []
        while self._requests and len(batch) < self.placement.windows:
            waiting = heapq.heappop(self._requests)
            assert isinstance(waiting.what, Request)
            samples = len(waiting.what.audio)
            if batch and samples // LOOK_SAMPLES_STEP != len(batch[0].audio) // LOOK_SAMPLES_STEP:
                passed.append(waiting)
            else:
                batch.append(waiting.what)
        for waiting in passed:
            heapq.heappush(self._requests, waiting)
        return batch

    def _call_helpers(self) -> None:
        """Have as many helper threads at work as there is work for."""
        self._helpers = [helper for helper in self._helpers if not helper.done()]
        for _ in range(min(self._helping - len(self._helpers), len(self._requests))):
            self._helpers.append(self._executor.submit(self._help))

    def _help(self) -> None:
        """In a thread of its own: look at windows as long as any wait."""
        while batch := self._take():
            try:
                self._looked_at.put((batch, self.analyst.look(batch), None))
            except Exception as error:  # noqa: BLE001 - raised by the thread that calls `step`
                self._stopped = True
                self._looked_at.put((batch, [], error))

    def _take(self) -> list[Request]:
        with self._taking:
            return self._next_batch() if self._requests and not self._stopped else []

    def _receive(self, looked: Looked) -> None:
        batch, windows, error = looked
        if error is not None:
            raise error
        self._looked(batch, windows)

    def _look(self, batch: list[Request]) -> list[Window | None]:
        """Look at windows together; where the device's memory is short, at half as many at a time."""
        try:
            return self.analyst.look(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        log.warning("device out of memory, looking at fewer windows at a time", extra={"windows": len(batch)})
        torch.cuda.empty_cache()
        half = len(batch) // 2
        return self._look(batch[:half]) + self._look(batch[half:])

    def _looked(self, requests: list[Request], windows: list[Window | None]) -> None:
        for request, window in zip(requests, windows, strict=True):
            if window is None:
                error = "the model yields no finite numbers for this audio"
                self._done.append(Response(request.request_id, (), error))
                continue
            for task in window.jobs:
                heapq.heappush(self._jobs, Waiting(request.due_s, next(self._arrivals), (window, task)))
            self._complete(window)

    def _fill_slots(self) -> None:
        """Give free slots to the jobs that are due first."""
        free = self.generator.free
        for_captions = self._caption_slots - self._decoding["caption"]
        admitted: list[tuple[tuple[Window, str], Job]] = []
        passed: list[Waiting] = []
        while self._jobs and len(admitted) < free:
            waiting = heapq.heappop(self._jobs)
            assert isinstance(waiting.what, tuple)
            window, task = waiting.what
            if task == "caption" and for_captions <= 0:
                passed.append(waiting)
                continue
            for_captions -= task == "caption"
            self._decoding[task] += 1
            job = window.jobs.pop(task)
            if self.on_token is not None:
                on_token = functools.partial(self.on_token, window.request.request_id, task)
                job = dataclasses.replace(job, on_token=on_token)
            admitted.append((waiting.what, job))
        for waiting in passed:
            heapq.heappush(self._jobs, waiting)
        for (window, task), generated in self.generator.admit(admitted):
            self._decoding[task] -= 1
            self.analyst.finish(window, task, generated)
            self._complete(window)

    def _complete(self, window: Window) -> None:
        if window.answered:
            answers = tuple(window.answers[task] for task in window.tasks)
            self._done.append(Response(window.request.request_id, answers, None))


def at_own_length(loaded: Loaded) -> Loaded:
    """The same checkpoint without padding to 30 s."""
    config = dataclasses.replace(loaded.config, pad_to_30s=False)
    loaded.model.config = config
    return dataclasses.replace(loaded, config=config)


def _alone() -> None:
    """A helper thread computes with no other."""
    torch.set_num_threads(1)


_choose, _keep_compiled = device.choose, device.keep_compiled  # `open` has an argument named `device`
