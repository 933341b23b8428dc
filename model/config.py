"""Every size of the model, as frozen dataclasses.

In: the JSON of a checkpoint (or a name of `CONFIGS`). Out: an `EurekaConfig`. Knows no weights and no tokenizer.
Invariant: nothing else in this folder holds a width, a token id or a prompt of a question of its own;
`EurekaConfig.from_json(config.to_json()) == config`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

Track = Literal["speech", "scene"]


@dataclass(frozen=True)
class AudioConfig:
    """Whisper encoder. `positions` are encoder frames of 20 ms, so 1500 are 30 s."""

    n_mels: int
    d_model: int
    layers: int
    heads: int
    ffn: int
    positions: int = 1500


@dataclass(frozen=True)
class AdapterConfig:
    """Sparse MoE adapter. Each routed or shared expert is `frames_per_token·d_model → hidden → expert_out`."""

    experts: int
    top_k: int
    shared_experts: int
    hidden: int
    expert_out: int
    out: int
    frames_per_token: int = 4


@dataclass(frozen=True)
class DecoderConfig:
    """Qwen3 decoder."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    rope_theta: float = 1e6
    rms_eps: float = 1e-6
    tie_embeddings: bool = True


@dataclass(frozen=True)
class TokenIds:
    """Ids of the special tokens the prompts and the decoding loop need."""

    im_start: int
    im_end: int
    audio_start: int
    audio_pad: int
    audio_end: int
    endoftext: int
    think: int
    think_end: int


@dataclass(frozen=True)
class Question:
    """A closed-set question; its answer is the probabilities of the letters A, B, … at one position."""

    name: str
    track: Track
    prompt: str
    choices: tuple[str, ...]
    event_type: str


@dataclass(frozen=True)
class DecodingConfig:
    """How texts are decoded: greedy with a repetition penalty, as the authors' command line does.

    Their Python API samples: temperature 0.7, top_p 0.8, top_k 20. `ctc_weight` is λ of
    `λ·log P_ctc + (1 − λ)·log P_decoder`; `speech_threshold` is the CTC speech evidence (0 … 1,
    `model.ctc.speech_evidence`) below which a transcript is empty; `ctc_beam` is how many texts of the CTC head are
    compared; below `min_confidence` a transcript of theirs is empty (a buzz read as digits had 0.08 at most, the worst
    of 123 training prompts 0.12).
    """

    max_new_tokens: int = 512
    repetition_penalty: float = 1.05
    ctc_weight: float = 0.5
    speech_threshold: float = 0.5
    ctc_beam: int = 8
    min_confidence: float = 0.1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class EurekaConfig:
    """All of a checkpoint but its weights and its tokenizer. `language` is None for a multilingual model."""

    name: str
    version: str
    audio: AudioConfig
    adapter: AdapterConfig
    decoder: DecoderConfig
    tokens: TokenIds
    ctc: bool
    pad_to_30s: bool
    questions: tuple[Question, ...] = ()
    language: str | None = None
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    ctc_blocks: int = 0  # context before the CTC head (model.ctc_context)

    def to_json(self) -> str:
        """The configuration as one line of JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> EurekaConfig:
        """Read back `to_json`. Raises ValueError when a field is missing or unknown."""
        raw: dict[str, Any] = json.loads(text)
        try:
            raw["audio"] = AudioConfig(**raw["audio"])
            raw["adapter"] = AdapterConfig(**raw["adapter"])
            raw["decoder"] = DecoderConfig(**raw["decoder"])
            raw["tokens"] = TokenIds(**raw["tokens"])
            raw["decoding"] = DecodingConfig(**raw.get("decoding", {}))
            raw["questions"] = tuple(
                Question(**{**question, "choices": tuple(question["choices"])})
                for question in raw["questions"]
            )
            return EurekaConfig(**raw)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a configuration of this model: {error}") from error


# Ids as `model.tokenizer.train` gives them out: specials come first, in the order of TokenIds.
TRAINED_TOKEN_IDS = TokenIds(
    im_start=0, im_end=1, audio_start=2, audio_pad=3, audio_end=4, endoftext=5, think=6, think_end=7
)

# Ids of the Qwen3-Omni tokenizer; a released folder's own tokenizer has the last word (model.checkpoint).
QWEN_TOKEN_IDS = TokenIds(
    im_start=151644,
    im_end=151645,
    audio_start=151669,
    audio_pad=151675,
    audio_end=151670,
    endoftext=151643,
    think=151667,
    think_end=151668,
)

# What the released model is asked. Nano asks what its training data justifies, from its own checkpoint.
RELEASE_QUESTIONS = (
    Question(
        "emotion",
        "speech",
        "What is the emotion of the speaker?",
        ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised"),
        "emotion",
    ),
    Question("voice", "speech", "Is the speaker female or male?", ("female", "male"), "voice"),
    Question("pace", "speech", "How fast does the speaker talk?", ("slow", "normal", "fast"), "pace"),
    Question(
        "sound",
        "scene",
        "Which kind of sound is heard most of the time?",
        ("speech", "music", "tones", "noise", "silence"),
        "sound",
    ),
)

CONFIGS: dict[str, EurekaConfig] = {
    "nano": EurekaConfig(
        name="eureka-nano",
        version="0",
        audio=AudioConfig(n_mels=80, d_model=512, layers=6, heads=8, ffn=2048),
        adapter=AdapterConfig(experts=8, top_k=2, shared_experts=1, hidden=512, expert_out=512, out=256),
        decoder=DecoderConfig(hidden=256, layers=6, heads=4, kv_heads=2, head_dim=64, ffn=768, vocab=512),
        tokens=TRAINED_TOKEN_IDS,
        ctc=True,
        pad_to_30s=False,
        language="en",
        decoding=DecodingConfig(repetition_penalty=1.0),
    ),
    # The adapter's inner sizes are unknown for the release; these only fill the geometry.
    "1.7b": EurekaConfig(
        name="eureka-audio-instruct",
        version="0",
        audio=AudioConfig(n_mels=128, d_model=1280, layers=32, heads=20, ffn=5120),
        adapter=AdapterConfig(experts=8, top_k=2, shared_experts=1, hidden=1024, expert_out=1024, out=2048),
        decoder=DecoderConfig(
            hidden=2048, layers=28, heads=16, kv_heads=8, head_dim=128, ffn=6144, vocab=151936
        ),
        tokens=QWEN_TOKEN_IDS,
        ctc=False,
        pad_to_30s=True,
        questions=RELEASE_QUESTIONS,
        decoding=DecodingConfig(ctc_weight=0.0),
    ),
}
