"""Our own checkpoints as answerers, each in one of several ways, and what the ways have in common.

In: an engine; clips and items. Out: answers with a trace of what was heard. Knows no judge and no key. Invariant: a
witness that cannot tell says so (`choice` None); it never picks an option by chance.

The ways:
- `question`: the decoder's probabilities of the letters of the closed-set questions that the checkpoint was trained on.
- `caption`: the decoder writes a caption, and the option that the caption names is chosen.
- `letters`: the same probabilities for the very question and options that are asked, whatever they are: for checkpoints
  that were trained on such questions, as the released one was. The only way for questions that a model wrote.
- `signal`: arithmetic on the samples (`model.dataflux.signal`), with the CTC head telling whether words are spoken; the
  decoder's closed-set answers and captions have no part in it.
`question`, `caption` and `letters` of one checkpoint share encoder, adapter and decoder and differ in the task alone;
`signal` shares with them only whether and when words were heard. Two checkpoints share what they were trained from.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from model.answers import Answer as EngineAnswer
from model.answers import ChoiceAnswer, Question, Request, TextAnswer
from model.dataflux import signal
from model.dataflux.aspects import ASPECTS, NOBODY
from model.dataflux.errors import Unusable
from model.dataflux.values import LETTERS, Answer, Clip, Item, Material, Samples
from model.engine import Engine
from model.train.windows import caption_class

KEPT_CLIPS = 16
ASKED = "asked"
TOLD = ("voice", "pace", "line", "background", "sound")
# The aspects that each way of listening can say something about.
TELLS: Mapping[str, frozenset[str]] = {
    "question": frozenset(TOLD),
    "caption": frozenset({*TOLD, "signal", "order"}),
    "signal": frozenset({"sound", "line", "voice", "order", "loudness"}),
    "letters": frozenset(ASPECTS),
}
SOUND_THEN = re.compile(r"(.*?) Then: (.*)", re.DOTALL)


@dataclass
class Ears:
    """One engine, and what it has heard lately: a clip is looked at once, however many items and witnesses ask."""

    engine: Engine
    _heard: OrderedDict[str, Mapping[str, EngineAnswer]] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock)

    @property
    def name(self) -> str:
        return f"{self.engine.name} {self.engine.version}"

    def hear(self, clip: Clip, audio: Samples) -> Mapping[str, EngineAnswer]:
        """Answers by task. Raises Unusable(no_audio) where the engine refuses the window."""
        with self._lock:
            if clip.name not in self._heard:
                tasks = ("transcript", "caption", "questions:speech", "questions:scene")
                (response,) = self.engine.run([Request(clip.name, audio, tasks)])
                if response.error is not None:
                    raise Unusable("no_audio", "the engine refuses it", again=False)
                self._heard[clip.name] = {answer.task: answer for answer in response.answers}
                while len(self._heard) > KEPT_CLIPS:
                    self._heard.popitem(last=False)
            return self._heard[clip.name]

    def ask(self, audio: Samples, item: Item) -> tuple[float, ...]:
        """The probability of each option's letter. Raises Unusable(no_audio)."""
        with self._lock:
            questions = self.engine.analyst.questions
            questions[ASKED] = Question(ASKED, "scene", item.text, item.options, ASKED)
            try:
                (response,) = self.engine.run([Request(ASKED, audio, (f"question:{ASKED}",))])
            finally:
                del questions[ASKED]
        if response.error is not None:
            raise Unusable("no_audio", "the engine refuses it", again=False)
        (answer,) = response.answers
        assert isinstance(answer, ChoiceAnswer)
        return tuple(answer.probabilities[option] for option in item.options)


@dataclass(frozen=True)
class LettersWitness:
    """An answerer to any question, by the letters of its options."""

    ears: Ears
    way: str = "letters"

    async def answer(self, clip: Clip, material: Material, item: Item, again: Unusable | None) -> Answer:
        """The option of the likeliest letter."""
        chances = await asyncio.to_thread(self.ears.ask, material.audio, item)
        told = ", ".join(f"{letter} {chance:.2f}" for letter, chance in zip(LETTERS, chances, strict=False))
        return Answer(chances.index(max(chances)), f"probabilities of the letters: {told}")


@dataclass(frozen=True)
class Witness:
    """An answerer to questions about known aspects: `way` is one of WAYS."""

    ears: Ears
    way: str

    async def answer(self, clip: Clip, material: Material, item: Item, again: Unusable | None) -> Answer:
        """The option that means what this way of listening says of the item's aspect."""
        heard = await asyncio.to_thread(self.ears.hear, clip, material.audio)
        if item.aspect is None or item.values is None:
            return Answer(None, "only questions about known aspects can be answered this way")
        value, trace = await asyncio.to_thread(WAYS[self.way], item, heard, material.audio)
        if value is None:
            return Answer(None, f"{trace}; that does not tell")
        choice = item.values.index(value) if value in item.values else None
        return Answer(choice, trace if choice is not None else f"{trace}; so {value}, which is no option")


def by_question(item: Item, heard: Mapping[str, EngineAnswer], audio: Samples) -> tuple[str | None, str]:
    """The likeliest of the options, by the checkpoint's own question about this aspect."""
    assert item.values is not None
    if item.aspect not in TOLD or f"question:{item.aspect}" not in heard:
        return None, "the checkpoint has no question about this"
    scene = _chances(heard, "sound")
    chances = dict(_chances(heard, item.aspect))
    if NOBODY in item.values and scene:
        speech = scene.get("speech", 0.0)
        chances = {value: chance * speech for value, chance in chances.items()} | {NOBODY: 1.0 - speech}
    offered = {value: chances[value] for value in item.values if value in chances}
    if not offered:
        return None, "none of the options is known to the checkpoint"
    best = max(offered, key=offered.__getitem__)
    told = ", ".join(f"{value} {chance:.2f}" for value, chance in offered.items())
    return best, f"probabilities: {told}"


def by_caption(item: Item, heard: Mapping[str, EngineAnswer], audio: Samples) -> tuple[str | None, str]:
    """What the written caption names."""
    caption = heard["caption"]
    assert isinstance(caption, TextAnswer)
    return _NAMED.get(item.aspect or "", _nothing)(caption.text), f"the caption reads: {caption.text}"


def by_signal(item: Item, heard: Mapping[str, EngineAnswer], audio: Samples) -> tuple[str | None, str]:
    """What level, bandwidth and pitch say, and whether the CTC head hears words."""
    transcript = heard["transcript"]
    assert isinstance(transcript, TextAnswer)
    words = len(transcript.text.split())
    figures = signal.measure(audio)
    pitch = "none" if figures.pitch_hz is None else f"{figures.pitch_hz:.0f} Hz"
    trace = (
        f"{words} words, level {figures.level_dbfs:.0f} dBFS, treble {figures.treble_db:.0f} dB, "
        f"tonal {figures.tonal:.2f}, flat {figures.flat:.2f}, pitch {pitch}"
    )
    value: str | None = None
    if item.aspect == "sound":
        value = signal.sound(figures, words)
    elif item.aspect == "line":
        value = signal.line(figures)
    elif item.aspect == "voice":
        value = signal.voice(figures) if words else NOBODY
    elif item.aspect in ("order", "loudness") and transcript.words:
        start, end = transcript.words[0].start_ms * 16, transcript.words[-1].end_ms * 16
        if item.aspect == "loudness":
            value = signal.loudness(audio[start:end])
        else:
            value = signal.order(audio, start, end)
    return value, trace


WAYS: Mapping[str, Callable[[Item, Mapping[str, EngineAnswer], Samples], tuple[str | None, str]]] = {
    "question": by_question,
    "caption": by_caption,
    "signal": by_signal,
}


def _chances(heard: Mapping[str, EngineAnswer], question: str) -> Mapping[str, float]:
    answer = heard.get(f"question:{question}")
    return answer.probabilities if isinstance(answer, ChoiceAnswer) else {}


def _nothing(text: str) -> str | None:
    return None


def _first(text: str, words: Mapping[str, str], otherwise: str | None) -> str | None:
    for word, value in words.items():
        if re.search(rf"\b{word}\b", text, re.IGNORECASE):
            return value
    return otherwise


def _spoken(
    words: Mapping[str, str], otherwise: str | None, nobody: str | None
) -> Callable[[str], str | None]:
    def named(text: str) -> str | None:
        return _first(text, words, otherwise) if caption_class(text) == "speech" else nobody

    return named


def _order(text: str) -> str | None:
    """Two parts at most: the checkpoint's captions know no more."""
    parts = SOUND_THEN.fullmatch(text)
    kinds = [caption_class(part) for part in (parts.groups() if parts else (text,))]
    named = ", ".join("speech" if kind == "speech" else "sound" for kind in kinds if kind is not None)
    return named if named in ("speech", "sound, speech", "speech, sound") else None


_NAMED: Mapping[str, Callable[[str], str | None]] = {
    "sound": caption_class,
    "voice": _spoken({"woman": "female", "man": "male"}, None, NOBODY),
    "pace": _spoken({"slowly": "slow", "quickly": "fast", "normal pace": "normal"}, None, NOBODY),
    "line": _spoken({"telephone line": "telephone", "wideband line": "wideband"}, None, None),
    "background": _spoken({"with noise": "noise", "with music": "music"}, "clean", None),
    "order": _order,
    "signal": lambda text: _first(
        text,
        {
            name: name
            for name in (
                "a fast busy tone",
                "a busy tone",
                "a dial tone",
                "a ringing tone",
                "a fax tone",
                "a modem tone",
                "keypad tones",
                "beeps",
                "a sequence of tones",
            )
        },
        None,
    ),
}
