"""The recipe of a training: which model, which data, and one stage after the other; read from a TOML file.

In: a file like those of `recipes/`. Out: a frozen `Recipe`. Knows no tensor.
Invariant: a name that is not known, a share below zero, a stage that trains nothing it has a loss for: each is an error
when the file is read, not after an hour. Paths in the file are relative to the file.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.config import CONFIGS, AdapterConfig, AudioConfig
from model.train.manifest import Task
from model.train.windows import QUESTIONS

Part = Literal["encoder", "adapter", "ctc", "decoder"]
Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
FOLDER = Path(__file__).with_name("recipes")
# The mix of the paper's supervised fine-tuning (arXiv 2602.13954).
PAPER_MIX: Mapping[Task, float] = {"asr": 0.6, "paralinguistic": 0.1, "semantic": 0.2, "caption": 0.1}


class RecipeError(ValueError):
    """A recipe cannot be used; the message names the file and what is wrong with it."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AdapterSizes(_Table):
    """Sizes of the adapter that differ from the geometry's."""

    experts: Count | None = None
    top_k: Count | None = None
    shared_experts: Annotated[int, Field(ge=0)] | None = None
    hidden: Count | None = None


class ModelTable(_Table):
    """What is trained, and from what it starts.

    `start`: a checkpoint of this project, or a released folder; all of it. Otherwise the adapter and the CTC head are
    fresh, and `encoder` (a safetensors file or a folder with a Whisper encoder in it: ours, or transformers') and
    `decoder` (a folder of transformers' Qwen3ForCausalLM with its tokenizer.json) may be given; without a decoder that
    one is fresh too and a tokenizer of `vocabulary` tokens is trained on the data's texts.
    `encoder_layers`: how many of the encoder's last layers any stage may train; what lies below is computed once and
    cached. "all": the whole encoder, and what is cached are the log-mels.
    `questions`: names of closed questions that the checkpoint will offer to the engine.
    """

    name: str = "eureka-nano"
    version: str = "0"
    geometry: Literal["nano", "1.7b"] = "nano"
    vocabulary: Annotated[int, Field(ge=264)] = 768
    ctc: bool = True
    ctc_blocks: Annotated[int, Field(ge=0)] = 4
    ctc_weight: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    language: str | None = "en"
    encoder: Path | None = None
    decoder: Path | None = None
    start: Path | None = None
    encoder_layers: Annotated[int, Field(ge=0)] | Literal["all"] = 2
    adapter: AdapterSizes = AdapterSizes()
    questions: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        known = [question.name for question in QUESTIONS]
        if unknown := [name for name in self.questions if name not in known]:
            raise ValueError(f"questions: {', '.join(unknown)} not among {', '.join(known)}")
        if self.start is not None and (self.encoder or self.decoder):
            raise ValueError("start: it brings its encoder and its decoder along")
        layers = CONFIGS[self.geometry].audio.layers
        if isinstance(self.encoder_layers, int) and self.encoder_layers > layers:
            raise ValueError(f'encoder_layers: {layers} at most, or "all"')
        return self

    def audio_config(self) -> AudioConfig:
        """The geometry's encoder."""
        return CONFIGS[self.geometry].audio

    def adapter_config(self) -> AdapterConfig:
        """The geometry's adapter with this table's sizes."""
        sizes = self.adapter.model_dump(exclude_none=True)
        base = CONFIGS[self.geometry].adapter
        return AdapterConfig(**{**base.__dict__, **sizes})


class DataTable(_Table):
    """Where the windows come from.

    `manifests`: see `model.train.manifest`. `cache`: encode each window once, in `views` versions (the first as it
    is, the others augmented); without it, every window is read, augmented and encoded anew each time.
    `repeats`: how often a window of a source is seen in an epoch, when not once.
    """

    manifests: tuple[Path, ...] = ()
    cache: bool = True
    views: Count = 1
    repeats: dict[str, Count] = {}


class Stage(_Table):
    """One stage.

    `train`: which parts learn; the others stay as they are. `mix`: shares of the tasks the decoder is given, among
    those that are known of a window; it gets `jobs_per_window` of them on average (0: the decoder is not run).
    Loss = next token + `balance`·load balance + `ctc`·CTC + `probes`·linear probes of the closed questions.
    `budget_frames`: padded encoder frames (20 ms) of a step, over all processes together.
    The rate rises over `warmup_steps`, stays, and falls linearly to zero over the last `decay_steps`; the encoder's is
    `encoder_factor` times it. `bf16`: products in bf16, weights and moments in fp32; "auto": where it is fast.
    `mask`: blank out parts of the encoder's states (SpecAugment). `augment`: other waveforms than the recorded ones.
    `reorder`: a manifest question's choices in another order each time, so that no letter is learned by heart.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    steps: Count
    train: Annotated[tuple[Part, ...], Field(min_length=1)]
    rate: Positive
    mix: dict[Task, Weight] = dict(PAPER_MIX)
    jobs_per_window: Weight = 1.0
    balance: Weight = 0.02
    ctc: Weight = 1.0
    probes: Weight = 0.0
    budget_frames: Count = 4000
    longest_frames: Count | None = None
    encoder_factor: Positive = 0.15
    warmup_steps: Count = 100
    decay_steps: Count = 600
    weight_decay: Weight = 0.01
    clip_norm: Positive = 1.0
    bf16: bool | Literal["auto"] = "auto"
    mask: bool = True
    augment: bool = True
    reorder: bool = False
    save_every_s: Weight = 240.0
    report_every: Count = 50

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.jobs_per_window > 0 and not sum(self.mix.values()) > 0:
            raise ValueError("mix: no task has a share")
        if self.jobs_per_window == 0 and self.ctc == 0:
            raise ValueError("neither the decoder nor the CTC head has a loss")
        if self.jobs_per_window == 0 and "decoder" in self.train:
            raise ValueError("train: the decoder cannot learn from jobs_per_window = 0")
        if self.ctc == 0 and "ctc" in self.train:
            raise ValueError("train: the CTC head cannot learn from ctc = 0")
        return self


class Recipe(_Table):
    """All of a training. `seed` decides everything that is drawn."""

    model: ModelTable = ModelTable()
    data: DataTable = DataTable()
    stage: Annotated[tuple[Stage, ...], Field(min_length=1)]
    seed: int = 1

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        names = [stage.name for stage in self.stage]
        if len(set(names)) < len(names):
            raise ValueError("stage: two stages have the same name")
        for stage in self.stage:
            if "encoder" in stage.train and self.model.encoder_layers == 0:
                raise ValueError(f"stage {stage.name} trains the encoder, but encoder_layers = 0")
            if not self.model.ctc and ("ctc" in stage.train or stage.ctc > 0):
                raise ValueError(f"stage {stage.name} has a CTC loss, the model no CTC head")
        return self

    @property
    def parts(self) -> frozenset[Part]:
        """Everything that any stage trains."""
        return frozenset(part for stage in self.stage for part in stage.train)

    def with_steps(self, steps: Mapping[str, int]) -> Recipe:
        """The same with other numbers of steps, by stage; each stage decays over the same share of them.

        Raises RecipeError for a stage that is not there.
        """
        if unknown := set(steps) - {stage.name for stage in self.stage}:
            raise RecipeError(f"no stage named {', '.join(sorted(unknown))}")
        stages = []
        for stage in self.stage:
            wanted = steps.get(stage.name, stage.steps)
            decay = max(1, round(stage.decay_steps * wanted / stage.steps))
            stages.append(stage.model_copy(update={"steps": wanted, "decay_steps": decay}))
        return self.model_copy(update={"stage": tuple(stages)})

    def with_manifests(self, manifests: tuple[Path, ...]) -> Recipe:
        """The same on these manifests."""
        data = self.data.model_copy(update={"manifests": manifests})
        return self.model_copy(update={"data": data})

    def with_model(self, **changes: Any) -> Recipe:
        """The same with these fields of the model's table."""
        return self.model_copy(update={"model": self.model.model_copy(update=changes)})


def load(path: Path) -> Recipe:
    """Read a recipe. Raises RecipeError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        recipe = Recipe.model_validate_json(_json(raw))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: no TOML: {error}") from error
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise RecipeError(f"{path}: {'; '.join(problems)}") from error
    return _beside(recipe, path.parent)


def _json(raw: dict[str, Any]) -> str:
    """By way of JSON, where a strict table takes text for a path and a list for a tuple."""
    return json.dumps(raw)


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Paths of the file, from where the file is."""
    changes = {
        name: folder / value
        for name in ("encoder", "decoder", "start")
        if (value := getattr(recipe.model, name)) is not None
    }
    manifests = tuple(folder / path for path in recipe.data.manifests)
    return recipe.with_model(**changes).with_manifests(manifests)
