"""What is done with a window before anything is decoded: encoded once, and asked everything that one look answers.

In: requests. Out: `Window`s with their audio embeddings, what CTC hears, the answers to closed-set questions, the
transcript where there is a CTC head, and the decoding jobs that are left. Knows no slot, no order and no other window.
Invariants: a window is encoded once, whatever is asked of it; on a CPU everything here happens to one window by itself
on one thread, so its bits do not depend on company or on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import half, prompts, transcript, tree
from model.answers import Answer, ChoiceAnswer, Question, Request, TextAnswer
from model.cache import Prefix
from model.config import EurekaConfig
from model.decoder import Qwen3Decoder
from model.device import Placement
from model.eureka import Eureka
from model.features import (
    CHUNK_FRAMES,
    FRAMES_PER_TOKEN,
    HOP_SAMPLES,
    SAMPLE_RATE_HZ,
    log_mel,
    n_audio_tokens,
    stack,
)
from model.generate import Generated, Job
from model.reading import NotFinite, Reading
from model.sampling import Sampling
from model.tokenizer import Tokenizer
from model.transcript import Hearing

FRAME_BUCKETS = (200, 400, 800, 1504, CHUNK_FRAMES)  # 2, 4, 8, 15 and 30 s: the lengths that are compiled
TEXT_TASKS = ("transcript", "caption")


@dataclass
class Window:
    """A request under way: its audio embeddings, what CTC hears, the jobs that are left, the answers so far."""

    request: Request
    tasks: tuple[str, ...]
    audio_NO: Tensor
    hearing: Hearing | None
    answers: dict[str, Answer] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        return all(task in self.answers for task in self.tasks)


class Analyst:
    """Looks at windows with one model; may be used from several threads at a time."""

    def __init__(
        self, model: Eureka, tokenizer: Tokenizer, config: EurekaConfig, placement: Placement
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.config = config
        self.placement = placement
        self.questions = {question.name: question for question in self.config.questions}
        if placement.compile:
            # One graph for each bucket of lengths and of windows. (Symbolic lengths were tried: the
            # convolutions guard on ranges of them and are compiled again and again.)
            model.audio_encoder.compile(fullgraph=True, dynamic=False)
            model.audio_adapter.compile(fullgraph=True, dynamic=False)
        most = placement.windows
        self._row_buckets = sorted({1, *(most // n for n in (4, 2) if most // n), most})
        # One decoder writes; where products in bf16 are faster, another of the same weights reads what is proposed.
        reads = config.ctc and config.decoding.ctc_weight > 0
        self.reader = half.twin(model.decoder) if placement.half and reads else model.decoder
        self._asr_start = self._prefix_of_asr(model.decoder)
        self._reading_start = self._prefix_of_asr(self.reader)

    def expand(self, task: str) -> list[str]:
        """One task, or all questions of a track; empty when unknown."""
        if task in TEXT_TASKS:
            return [task]
        kind, _, name = task.partition(":")
        if kind == "questions" and name in ("speech", "scene"):
            # A checkpoint without such questions answers none of them: no error.
            return [f"question:{q.name}" for q in self.questions.values() if q.track == name] or [""]
        return [task] if kind == "question" and name in self.questions else []

    @torch.inference_mode()
    def look(self, requests: Sequence[Request]) -> list[Window | None]:
        """One batch on the device; None for a window whose numbers are not finite."""
        windows: list[Window | None] = []
        for request, audio_NO in zip(requests, self._encode(requests), strict=True):
            try:
                windows.append(self._ask(request, audio_NO))
            except NotFinite:
                windows.append(None)
        return windows

    def _ask(self, request: Request, audio_NO: Tensor) -> Window:
        """Everything that is answered at once. Raises NotFinite."""
        if not bool(audio_NO.isfinite().all()):
            raise NotFinite("audio embeddings")
        hearing = None
        if self.config.ctc:
            log_probs_NV = self.model.ctc_log_probs(audio_NO[None])[0].cpu()
            if bool(log_probs_NV.isnan().any()):
                raise NotFinite("CTC")
            hearing = transcript.hear(log_probs_NV, self.tokenizer.special_ids())
        tasks = tuple(one for task in request.tasks for one in self.expand(task) if one)
        window = Window(request, tasks, audio_NO, hearing)
        self._audio_first(window)
        if "transcript" in tasks:
            self._transcript(window)
        return window

    def finish(self, window: Window, task: str, generated: Generated) -> None:
        """Put down what one of the window's jobs has written."""
        if task == "caption" or window.hearing is None:
            answer = transcript.written(generated, self.tokenizer, task, self.config.language)
        else:
            answer = self._spoken(window, generated.ids, sum(generated.log_probs))
        window.answers[task] = answer

    def warm_up(self) -> None:
        """Run every shape that is compiled, so that none is compiled later."""
        if not self.placement.compile:
            return
        for frames in FRAME_BUCKETS[-1:] if self.config.pad_to_30s else FRAME_BUCKETS:
            audio = np.zeros(frames * HOP_SAMPLES, np.int16)
            for count in self._row_buckets:
                self.look([Request("warm-up", audio, ())] * count)

    def longest_prompt(self, samples: int) -> int:
        """Positions of the longest prompt there is for windows of up to `samples`."""
        tokens = n_audio_tokens(samples)
        texts = [prompts.asr(tokens), prompts.caption(tokens)]
        texts += [prompts.question(tokens, q.prompt, q.choices) for q in self.questions.values()]
        return max(len(prompts.encode(self.tokenizer, text)) for text in texts)

    def _encode(self, requests: Sequence[Request]) -> list[Tensor]:
        """Audio embeddings `[N, O]` of each, where windows are looked at together by one batch of the encoder."""
        mels = [log_mel(self._wave(r), self.config.audio.n_mels).to(self.placement.dtype) for r in requests]
        batches = [mels] if self.placement.windows > 1 else [[mel] for mel in mels]
        found: list[Tensor] = []
        for batch in batches:
            mel_BMT, frames_B = stack(batch)
            encoded = self.model.encode_chunks(*self._in_bucket(mel_BMT, frames_B))
            embeds_BNO = self.model.adapt(encoded).embeds_BNO
            found += [embeds_BNO[row, : mel.shape[1] // FRAMES_PER_TOKEN] for row, mel in enumerate(batch)]
        return found

    def _in_bucket(self, mel_BMT: Tensor, frames_B: Tensor) -> tuple[Tensor, Tensor, int | None]:
        """A batch of one of the shapes that are compiled; as it is where nothing is compiled."""
        if not self.placement.compile:
            return mel_BMT, frames_B, None
        rows = next(n for n in self._row_buckets if n >= len(frames_B)) - len(frames_B)
        return (
            F.pad(mel_BMT, (0, 0, 0, 0, 0, rows)),
            F.pad(frames_B, (0, rows), value=FRAMES_PER_TOKEN),
            next(frames for frames in FRAME_BUCKETS if frames >= mel_BMT.shape[2]),
        )

    def _wave(self, request: Request) -> Tensor:
        # A copy: the audio may lie in shared memory that is not ours to keep.
        wave = torch.from_numpy(request.audio.astype(np.float32) / 32768.0)
        if self.placement.on_cpu:
            return wave
        return wave.pin_memory().to(self.placement.device, non_blocking=True)

    def _audio_first(self, window: Window) -> None:
        """Questions and caption begin with the audio: one prefill of it, then all questions in one pass.

        The answer to a question is read off the position after its prompt: nothing is decoded.
        """
        asked = [
            self.questions[task.removeprefix("question:")]
            for task in window.tasks
            if task.startswith("question:")
        ]
        if not asked and "caption" not in window.tasks:
            return
        tokens = window.audio_NO.shape[0]
        start_P, caption_P = self._split(prompts.caption(tokens), self.config.tokens.audio_end)
        prefix, _ = self._begin(self.model.decoder, self._embed(start_P, window.audio_NO))
        if "caption" in window.tasks:
            window.jobs["caption"] = self._job(start_P, caption_P, None, prefix)
        if not asked:
            return
        rests = [
            self._split(prompts.question(tokens, q.prompt, q.choices), self.config.tokens.audio_end)[1]
            for q in asked
        ]
        parents = tree.side_by_side(len(rest_P) for rest_P in rests)
        embeds_LD = self.model.decoder.embed_tokens(torch.cat(rests))
        states_LD, _ = tree.grow(self.model.decoder, embeds_LD, parents, tree.Tree.after(prefix))
        end = 0
        for question, rest_P in zip(asked, rests, strict=True):
            end += len(rest_P)
            answer = self._choice(question, states_LD[end - 1])
            window.answers[answer.task] = answer

    def _choice(self, question: Question, state_D: Tensor) -> ChoiceAnswer:
        letters = self.tokenizer.letter_ids(len(question.choices))
        chances = self.model.decoder.lm_head(state_D).float()[letters].softmax(dim=-1).tolist()
        probabilities = {choice: round(p, 4) for choice, p in zip(question.choices, chances, strict=True)}
        label = max(probabilities, key=probabilities.__getitem__)
        task = f"question:{question.name}"
        return ChoiceAnswer(task, question.name, question.event_type, label, probabilities)

    def _transcript(self, window: Window) -> None:
        """Where CTC has a say, it and the decoder choose among texts, and nothing is decoded. Else: a job."""
        tokens = window.audio_NO.shape[0]
        if window.hearing is not None and transcript.is_silent(window.hearing, self.config):
            window.answers["transcript"] = transcript.silent(window.hearing, "transcript")
            return
        start_P, rest_P = self._split(prompts.asr(tokens), self.config.tokens.audio_start)
        embeds_PO = self._embed(rest_P, window.audio_NO)
        if window.hearing is None or not self.config.decoding.ctc_weight:
            window.jobs["transcript"] = self._job(start_P, rest_P, embeds_PO, self._asr_start)
            return
        new, state_O = self._begin(self.reader, embeds_PO, self._reading_start)
        ids = self.config.tokens
        reading = Reading(self.reader, self._reading_start.then(new), state_O, (ids.im_end, ids.endoftext))
        text, score = transcript.choose(window.hearing, reading.read, self.config, self.tokenizer)
        window.answers["transcript"] = self._spoken(window, text, score)

    def _spoken(self, window: Window, ids: tuple[int, ...], score: float) -> TextAnswer:
        assert window.hearing is not None
        duration_ms = len(window.request.audio) * 1000 // SAMPLE_RATE_HZ
        return transcript.spoken(
            window.hearing, ids, score, self.tokenizer, self.config, "transcript", duration_ms
        )

    def _begin(
        self, decoder: Qwen3Decoder, embeds_PO: Tensor, past: Prefix | None = None
    ) -> tuple[Prefix, Tensor]:
        """Prefill: keys and values of these positions alone, and the state at the last."""
        length = embeds_PO.shape[0]
        if past is None:
            positions_P = torch.arange(length, device=embeds_PO.device)
            states_PO, new = decoder.extend(embeds_PO, positions_P, None, None)
        else:
            parents = tree.side_by_side([length])
            states_PO, grown = tree.grow(decoder, embeds_PO, parents, tree.Tree.after(past))
            new = grown.read
        return new, states_PO[-1]

    def _job(self, start_P: Tensor, rest_P: Tensor, embeds_PO: Tensor | None, prefix: Prefix) -> Job:
        if embeds_PO is None:
            embeds_PO = self.model.decoder.embed_tokens(rest_P)
        decoding = self.config.decoding
        sampling = Sampling(decoding.temperature, decoding.top_p, decoding.top_k, decoding.repetition_penalty)
        return Job(embeds_PO, torch.cat([start_P, rest_P]), decoding.max_new_tokens, prefix, sampling)

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

    @torch.inference_mode()
    def _prefix_of_asr(self, decoder: Qwen3Decoder) -> Prefix:
        """The keys and values of the transcription prompt up to the audio: the same for every window."""
        start_P, _ = self._split(prompts.asr(1), self.config.tokens.audio_start)
        return self._begin(decoder, self._embed(start_P, None))[0]
