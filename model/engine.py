"""The engine: windows of audio in, transcripts, captions and choice probabilities out.

In: `Request`s with 16 kHz int16 audio of up to 30 s. Out: one `Response` each, in order. Knows no stream, no Kafka,
no process. Invariant: a window is encoded once, whatever is asked of it; a text depends on its own window alone; a
request that cannot be answered gets an `error` and its neighbours their answers.

On a CPU each window is encoded by itself (padding to a common length costs more than batching saves) and decoding
runs on one thread: a text is then the same to the last bit in any batch. On a GPU windows are encoded together, in
bf16, where the size of a batch may still change the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model import checkpoint, device, prompts, transcript
from model.answers import Answer, ChoiceAnswer, Question, Request, Response, TextAnswer, Word
from model.cache import Prefix
from model.checkpoint import Loaded
from model.continuations import Continuations
from model.device import Placement
from model.eureka import Encoded
from model.features import CHUNK_FRAMES, HOP_SAMPLES, SAMPLE_RATE_HZ, log_mel, n_audio_tokens
from model.generate import KEY_STEP, Generated, Generator, Job
from model.sampling import Sampling
from model.transcript import Hearing

__all__ = ["ChoiceAnswer", "Engine", "Question", "Request", "Response", "TextAnswer", "Word"]

MAX_SAMPLES = CHUNK_FRAMES * HOP_SAMPLES  # 30 s
TEXT_TASKS = ("transcript", "caption")


@dataclass
class Window:
    """A request under way: its audio embeddings, what CTC hears, and the answers so far, one place per task."""

    request: Request
    tasks: tuple[str, ...]
    audio_NO: Tensor
    hearing: Hearing | None
    answers: dict[str, Answer] = field(default_factory=dict)
    prefix: Prefix | None = None  # of the audio-first prompts


class Engine:
    def __init__(self, loaded: Loaded, placement: Placement, threads: int | None = None) -> None:
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.config = loaded.config
        self.placement = placement
        self.threads = threads or device.default_threads()
        self.name = loaded.config.name
        self.version = f"{loaded.config.version}+{loaded.sha256[:8]}"
        self.device = str(placement.device)
        self.on_cpu = placement.device.type == "cpu"
        self.questions = loaded.config.questions
        self.max_samples = MAX_SAMPLES
        self._by_name = {question.name: question for question in self.questions}
        ids = self.config.tokens
        stop_ids = (ids.im_end, ids.endoftext)
        capacity = self._longest_prompt() + self.config.decoding.max_new_tokens
        capacity = -(-capacity // KEY_STEP) * KEY_STEP
        self.generator = Generator(self.model.decoder, stop_ids, placement.slots, capacity, placement.compile)
        self._asr_start = self._prefix_of_asr()

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
    ) -> Engine:
        """Load a checkpoint onto a device. Raises CheckpointError, or ValueError for a device that is not there."""
        placement = _choose(device, compile, slots)
        loaded = checkpoint.load(
            Path(checkpoint_path), placement.device, placement.dtype, expected_sha256, trust_remote_code
        )
        return cls(loaded, placement, threads)

    def warm_up(self) -> None:
        """Run every path once, so that the first real window pays for no compilation."""
        noise = np.random.default_rng(0).normal(0, 500, SAMPLE_RATE_HZ).astype(np.int16)
        tasks = ("caption", *(f"question:{question.name}" for question in self.questions))
        self.run([Request("warm-up", noise, tasks)])
        prompt = torch.tensor(
            prompts.encode(self.tokenizer, prompts.user_prompt(0, "")), device=self.placement.device
        )
        with device.one_thread() if self.on_cpu else nullcontext():
            self.generator.run([Job(self.model.decoder.embed_tokens(prompt), prompt, max_new_tokens=4)])

    @torch.inference_mode()
    def run(self, requests: Sequence[Request]) -> list[Response]:
        """Answer a batch. Every request gets exactly one response, in the order of the requests."""
        errors: dict[int, str] = {}
        windows: dict[int, Window] = {}
        accepted = [
            i for i, request in enumerate(requests) if not errors.setdefault(i, self._refusal(request))
        ]
        if self.on_cpu:
            torch.set_num_threads(self.threads)
        for i, window in zip(accepted, self._encode([requests[i] for i in accepted]), strict=True):
            if window is None:
                errors[i] = "the model yields no finite numbers for this audio"
            else:
                windows[i] = window
        with device.one_thread() if self.on_cpu else nullcontext():
            jobs: list[tuple[Window, str, Job]] = []
            for window in windows.values():
                self._ask(window)
                jobs.extend((window, task, job) for task, job in self._text_jobs(window))
            texts = self.generator.run([job for _, _, job in jobs])
            for (window, task, _), generated in zip(jobs, texts, strict=True):
                window.answers[task] = self._text(window, task, generated)
        return [
            Response(request.request_id, tuple(windows[i].answers[task] for task in windows[i].tasks), None)
            if i in windows
            else Response(request.request_id, (), errors[i])
            for i, request in enumerate(requests)
        ]

    def _refusal(self, request: Request) -> str:
        """Why a request cannot be answered; empty when it can."""
        audio = request.audio
        if audio.dtype != np.int16 or audio.ndim != 1:
            return f"audio must be int16 of one dimension, not {audio.dtype} of {audio.ndim}"
        if not 0 < len(audio) <= self.max_samples:
            return f"audio of {len(audio)} samples; 1 to {self.max_samples} are possible"
        unknown = [task for task in request.tasks if not self._expand(task)]
        return f"unknown task {', '.join(unknown)}" if unknown else ""

    def _expand(self, task: str) -> list[str]:
        """One task, or all questions of a track; empty when unknown."""
        if task in TEXT_TASKS:
            return [task]
        kind, _, name = task.partition(":")
        if kind == "questions" and name in ("speech", "scene"):
            # A checkpoint without such questions answers none of them: no error.
            return [f"question:{q.name}" for q in self.questions if q.track == name] or [""]
        return [task] if kind == "question" and name in self._by_name else []

    def _encode(self, requests: Sequence[Request]) -> Iterator[Window | None]:
        """Audio → embeddings and CTC; None for a window whose numbers are not finite."""
        mels = []
        for request in requests:
            # A copy: the audio may lie in shared memory that is not ours to keep.
            audio = torch.from_numpy(request.audio.astype(np.float32) / 32768.0).to(self.placement.device)
            mels.append(log_mel(audio, self.config.audio.n_mels).to(self.placement.dtype))
        batches = [[mel] for mel in mels] if self.on_cpu else [mels] if mels else []
        encoded = [
            (batch, row) for batch in map(self.model.encode, batches) for row in range(len(batch.tokens_B))
        ]
        for request, (batch, row) in zip(requests, encoded, strict=True):
            tokens = int(batch.tokens_B[row])
            states = batch.states_BLD[row : row + 1, : tokens * self.config.adapter.frames_per_token]
            adapted = self.model.adapt(Encoded(states, batch.tokens_B[row : row + 1]))
            hearing = None
            if self.config.ctc:
                log_probs_NV = self.model.ctc_log_probs(adapted)[0].cpu()
                hearing = transcript.hear(log_probs_NV, self.tokenizer.special_ids())
            finite = bool(adapted.embeds_BNO.isfinite().all())
            tasks = tuple(one for task in request.tasks for one in self._expand(task) if one)
            yield Window(request, tasks, adapted.embeds_BNO[0], hearing) if finite else None

    def _ask(self, window: Window) -> None:
        """Prefill the audio-first prefix once, answer the questions on it, keep it for the caption."""
        names = [task.removeprefix("question:") for task in window.tasks if task.startswith("question:")]
        if not names and "caption" not in window.tasks:
            return
        tokens = window.audio_NO.shape[0]
        start_P, _ = self._split(prompts.caption(tokens), self.config.tokens.audio_end)
        self.generator.prefill(self._embed(start_P, window.audio_NO))
        window.prefix = self.generator.cache.snapshot(0, start_P.shape[0])
        for name in names:
            question = self._by_name[name]
            prompt = prompts.question(tokens, question.prompt, question.choices)
            _, rest_P = self._split(prompt, self.config.tokens.audio_end)
            states_PD = self.generator.prefill(self._embed(rest_P, None), window.prefix)
            letters = self.tokenizer.letter_ids(len(question.choices))
            chances = self.model.decoder.lm_head(states_PD[-1]).float()[letters].softmax(dim=-1).tolist()
            probabilities = {choice: round(p, 4) for choice, p in zip(question.choices, chances, strict=True)}
            label = max(probabilities, key=probabilities.__getitem__)
            task = f"question:{name}"
            window.answers[task] = ChoiceAnswer(task, name, question.event_type, label, probabilities)

    def _text_jobs(self, window: Window) -> Iterator[tuple[str, Job]]:
        """What must be decoded for this window; a transcript without speech is answered here."""
        tokens = window.audio_NO.shape[0]
        longest = self.config.decoding.max_new_tokens
        for task in dict.fromkeys(task for task in window.tasks if task in TEXT_TASKS):
            if task == "caption":
                start_P, rest_P = self._split(prompts.caption(tokens), self.config.tokens.audio_end)
                yield task, self._job(start_P, rest_P, self._embed(rest_P, None), longest, window.prefix)
            elif window.hearing is not None and transcript.is_silent(window.hearing, self.config):
                window.answers[task] = transcript.silent(window.hearing, task)
            else:
                start_P, rest_P = self._split(prompts.asr(tokens), self.config.tokens.audio_start)
                embeds_PO = self._embed(rest_P, window.audio_NO)
                if window.hearing is not None and self.config.decoding.ctc_weight:
                    window.answers[task] = self._joint(window, task, embeds_PO)
                    continue
                if window.hearing is not None:
                    longest = min(longest, max(1, tokens))  # CTC has no place for more
                yield task, self._job(start_P, rest_P, embeds_PO, longest, self._asr_start)

    def _joint(self, window: Window, task: str, embeds_PO: Tensor) -> TextAnswer:
        """A transcript by both witnesses, the CTC head and the decoder."""
        assert window.hearing is not None
        continuations = Continuations(self.generator, embeds_PO, self._asr_start)
        ids, score = transcript.choose(window.hearing, continuations.expect, self.config, self.tokenizer)
        return self._spoken(window, task, ids, score)

    def _job(
        self,
        start_P: Tensor,
        rest_P: Tensor,
        embeds_PO: Tensor,
        longest: int,
        prefix: Prefix | None,
    ) -> Job:
        sampling = Sampling(repetition_penalty=self.config.decoding.repetition_penalty)
        return Job(embeds_PO, torch.cat([start_P, rest_P]), longest, prefix, sampling)

    def _text(self, window: Window, task: str, generated: Generated) -> TextAnswer:
        if task == "caption" or window.hearing is None:
            return transcript.written(generated, self.tokenizer, task, self.config.language)
        return self._spoken(window, task, generated.ids, sum(generated.log_probs))

    def _spoken(self, window: Window, task: str, ids: tuple[int, ...], score: float) -> TextAnswer:
        assert window.hearing is not None
        duration_ms = len(window.request.audio) * 1000 // SAMPLE_RATE_HZ
        return transcript.spoken(window.hearing, ids, score, self.tokenizer, self.config, task, duration_ms)

    def _split(self, prompt: str, last_of_start: int) -> tuple[Tensor, Tensor]:
        """A prompt's ids, cut after the first `last_of_start`."""
        ids = prompts.encode(self.tokenizer, prompt)
        cut = ids.index(last_of_start) + 1
        both = torch.tensor(ids, device=self.placement.device)
        return both[:cut], both[cut:]

    def _embed(self, ids_P: Tensor, audio_NO: Tensor | None) -> Tensor:
        if audio_NO is None:
            return self.model.decoder.embed_tokens(ids_P)
        tokens_1 = torch.tensor([audio_NO.shape[0]], device=ids_P.device)
        return self.model.embed(ids_P[None], audio_NO[None], tokens_1)[0]

    def _longest_prompt(self) -> int:
        tokens = n_audio_tokens(self.max_samples)
        texts = [prompts.asr(tokens), prompts.caption(tokens)]
        texts += [prompts.question(tokens, q.prompt, q.choices) for q in self.questions]
        return max(len(prompts.encode(self.tokenizer, text)) for text in texts)

    @torch.inference_mode()
    def _prefix_of_asr(self) -> Prefix:
        """The keys and values of the transcription prompt up to the audio: the same for every window."""
        start_P, _ = self._split(prompts.asr(1), self.config.tokens.audio_start)
        self.generator.prefill(self._embed(start_P, None))
        return self.generator.cache.snapshot(0, start_P.shape[0])


_choose = device.choose  # `open` has an argument named `device`
