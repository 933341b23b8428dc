"""Word error rate of a transcriber.

In: references (audio file, text) and any function from int16 16 kHz audio to text. Out: a `Report`: word and character
error rate after Whisper's English normalisation, and × real time. Knows no engine beyond that function.
Invariant: every reference counts, also when nothing was heard (all its words are then deletions).
"""

import functools
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import av
import jiwer
import numpy as np
import numpy.typing as npt
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from model.answers import Request, TextAnswer
from model.engine import Engine
from model.evaluate.holdout import is_test, prompts, speakable
from model.evaluate.text import Rule

Audio = npt.NDArray[np.int16]
Transcriber = Callable[[Audio], str]
RATE_HZ = 16_000
QUIET_SAMPLES = 1600


@dataclass(frozen=True)
class Reference:
    """`group` names a part of the test set that is also reported by itself.

    Of a recording that holds more, the part from `start_s` to `end_s`. `labels` are known answers to questions of the
    checkpoint; `words` are (word, start, end) in ms of the part, where they are known.
    """

    audio: Path
    text: str
    group: str = ""
    rule: Rule = "en"
    start_s: float = 0.0
    end_s: float | None = None
    labels: tuple[tuple[str, str], ...] = ()
    words: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Score:
    """Rates are fractions of the reference; `recall` is the share of reference words that were recognised."""

    utterances: int
    words: int
    wer: float
    cer: float
    recall: float


@dataclass(frozen=True)
class Report:
    """`times_real_time` is audio time by transcription time (decoding of the file excluded)."""

    all: Score
    groups: dict[str, Score]
    audio_s: float
    times_real_time: float
    pairs: tuple[tuple[str, str], ...]


def read_manifest(path: Path) -> list[Reference]:
    """Lines {"audio": path, "text": …}; relative paths start at the manifest. Raises ValueError with the line.

    A line may also hold "group", "rule" (en, zh or spoken: see `text`), "start_s" and "end_s",
    "labels" {question: choice} and "words" [[word, start_ms, end_ms], …].
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_reference(path.parent, json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError):
            wanted = '{"audio": path, "text": reference}'
            raise ValueError(f"{path}:{number}: not a line like {wanted}") from None
    if not found:
        raise ValueError(f"{path} holds no reference")
    return found


def _reference(folder: Path, item: dict[str, Any]) -> Reference:
    rule = item.get("rule", "en")
    if rule not in get_args(Rule) or not isinstance(item["text"], str):
        raise ValueError("rule or text")
    end_s = item.get("end_s")
    return Reference(
        audio=folder / item["audio"],
        text=item["text"],
        group=item.get("group", ""),
        rule=rule,
        start_s=float(item.get("start_s", 0.0)),
        end_s=None if end_s is None else float(end_s),
        labels=tuple(sorted((str(name), str(label)) for name, label in item.get("labels", {}).items())),
        words=tuple((str(word), int(start), int(end)) for word, start, end in item.get("words", ())),
    )


def write_manifest(path: Path, references: Iterable[Reference]) -> int:
    """The manifest of these, paths absolute; how many they are."""
    count = 0
    with path.open("w", encoding="utf-8") as out:
        for one in references:
            line: dict[str, Any] = {"audio": str(one.audio.absolute()), "text": one.text}
            if one.group:
                line["group"] = one.group
            if one.rule != "en":
                line["rule"] = one.rule
            if one.end_s is not None:
                line |= {"start_s": one.start_s, "end_s": one.end_s}
            if one.labels:
                line["labels"] = dict(one.labels)
            if one.words:
                line["words"] = one.words
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count


def test_prompts(asterisk: Path) -> list[Reference]:
    """The Asterisk prompts of the test fifth, under an unpacked package tree."""
    return [
        Reference(path, speakable(text)) for path, text in sorted(prompts(asterisk).items()) if is_test(text)
    ]


test_prompts.__test__ = False  # type: ignore[attr-defined]  # for pytest: no test


def evaluate(references: Sequence[Reference], transcribe: Transcriber) -> Report:
    """Transcribe everything and score it."""
    pairs, groups, audio_s, spent_s = [], [], 0.0, 0.0
    for reference in references:
        audio = read_reference(reference)
        start_s = time.monotonic()
        heard = transcribe(audio)
        spent_s += time.monotonic() - start_s
        audio_s += len(audio) / RATE_HZ
        pairs.append((reference.text, heard))
        groups.append(reference.group)
    names = sorted({group for group in groups if group})
    return Report(
        score(pairs),
        {name: score([p for p, g in zip(pairs, groups, strict=True) if g == name]) for name in names},
        audio_s,
        audio_s / max(spent_s, 1e-9),
        tuple(pairs),
    )


def score(pairs: Iterable[tuple[str, str]]) -> Score:
    """Error rates of (reference, hypothesis) pairs; references that normalise to nothing are left out."""
    normalise = EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
    said = [(normalise(reference), normalise(heard)) for reference, heard in pairs]
    said = [(reference, heard) for reference, heard in said if reference]
    if not said:
        raise ValueError("no reference holds a word")
    references, heard = [r for r, _ in said], [h for _, h in said]
    words = jiwer.process_words(references, heard)
    total = words.hits + words.substitutions + words.deletions
    return Score(len(said), total, words.wer, jiwer.cer(references, heard), words.hits / total)


def engine_transcriber(engine: Engine) -> Transcriber:
    """The engine as a transcriber; audio of more than 30 s is cut at its quietest places."""

    def transcribe(audio: Audio) -> str:
        texts = []
        for piece in split(audio, engine.max_samples):
            response = engine.run([Request("asr", piece, ("transcript",))])[0]
            if response.error is not None:
                raise ValueError(response.error)
            texts += [answer.text for answer in response.answers if isinstance(answer, TextAnswer)]
        return " ".join(text for text in texts if text)

    return transcribe


def split(audio: Audio, most_samples: int) -> list[Audio]:
    """Pieces of at most `most_samples`, cut at the quietest 100 ms of the second half of each."""
    pieces = []
    while len(audio) > most_samples:
        half = most_samples // 2
        blocks = audio[half:most_samples].astype(np.float64)
        blocks = blocks[: len(blocks) // QUIET_SAMPLES * QUIET_SAMPLES].reshape(-1, QUIET_SAMPLES)
        cut = half + int(np.square(blocks).sum(axis=1).argmin()) * QUIET_SAMPLES + QUIET_SAMPLES // 2
        pieces.append(audio[:cut])
        audio = audio[cut:]
    return [*pieces, audio] if len(audio) else pieces


def read_reference(reference: Reference) -> Audio:
    """The part of the recording that a reference is about."""
    if reference.end_s is None:
        return read_audio(reference.audio)
    whole = _last_read(reference.audio)  # parts of one recording follow one another
    return whole[round(reference.start_s * RATE_HZ) : round(reference.end_s * RATE_HZ)]


@functools.lru_cache(maxsize=1)
def _last_read(path: Path) -> Audio:
    return read_audio(path)


def read_audio(path: Path | io.BytesIO) -> Audio:
    """Any common format (raw G.722 by its suffix) as 16 kHz mono int16; of a file or of its bytes."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    pieces = []
    raw = isinstance(path, Path) and path.suffix == ".g722"
    source = str(path) if isinstance(path, Path) else path
    with av.open(source, "r", format="g722" if raw else None) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += [np.asarray(out.to_ndarray()[0], np.int16) for out in resampler.resample(frame)]
        pieces += [np.asarray(out.to_ndarray()[0], np.int16) for out in resampler.resample(None)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)
