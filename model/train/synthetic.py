"""Small sets of synthetic speech, as manifests: phrases in many takes, or sentences that are all different.

In: a folder, a seed. Out: `train.jsonl` and `test.jsonl` (`model.train.manifest`) beside the audio. Needs flite.
Knows no model. Invariant: no take of the test set is in the training set; of the sentences no text either.
"""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.train import manifest, synthesise, texts
from model.train.manifest import Sample
from model.train.voices import FLITE, Voice
from model.train.windows import QUESTIONS

LICENCE = "Apache-2.0"  # made here; the texts are this project's
# What is said, and what it is about.
PHRASES = {
    "please hold the line": "waiting",
    "your call is important to us": "waiting",
    "press one for sales": "a menu",
    "press two for support": "a menu",
    "thank you for calling": "a greeting",
    "good morning": "a greeting",
    "the account is closed": "an account",
    "your balance is nine dollars": "an account",
}
TOPICS = tuple(sorted(set(PHRASES.values())))
TOPIC_QUESTION = "What is it about?"
TRAINED_RATES = (0.82, 0.9, 1.0, 1.1, 1.2)
TESTED_RATES = (0.95,)
PHRASE_VOICES = FLITE[:2]  # a woman and a man
RATES = (0.8, 1.25)


@dataclass(frozen=True)
class Take:
    """A text as one voice says it, at a factor of its usual speed."""

    text: str
    voice: Voice
    rate: float


@dataclass(frozen=True)
class Sets:
    """Manifests."""

    train: Path
    test: Path


def phrases(folder: Path) -> Sets:
    """PHRASES in many takes; each is transcribed, described, and asked who speaks and what about."""

    def takes(rates: Sequence[float]) -> list[Take]:
        return [Take(*parts) for parts in itertools.product(PHRASES, PHRASE_VOICES, rates)]

    return _made(folder, takes(TRAINED_RATES), takes(TESTED_RATES), all_tasks=True)


def sentences(folder: Path, train: int, test: int, seed: int) -> Sets:
    """Call-center sentences, each once, by any voice of flite at any pace; they are transcribed only."""
    rng = random.Random(seed)
    different = list(itertools.islice(_unique(rng), train + test))
    takes = [Take(text, rng.choice(FLITE), round(rng.uniform(*RATES), 3)) for text in different]
    return _made(folder, takes[:train], takes[train:], all_tasks=False)


def _unique(rng: random.Random) -> Iterator[str]:
    seen: set[str] = set()
    for text in texts.call_center(rng):
        if text not in seen:
            seen.add(text)
            yield text


def _made(folder: Path, train: Sequence[Take], test: Sequence[Take], all_tasks: bool) -> Sets:
    paths = []
    for name, takes in (("train", train), ("test", test)):
        out = folder / name
        plan = folder / f"{name}-plan.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        lines = [
            {
                "id": f"{name}-{number:05d}",
                "text": take.text,
                "program": take.voice.program,
                "voice": take.voice.name,
                "rate": take.rate,
            }
            for number, take in enumerate(takes)
        ]
        plan.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        synthesise.speak(plan, out)
        samples = [
            sample
            for line, take in zip(lines, takes, strict=True)
            for sample in samples_of(take, out / f"{line['id']}.wav", all_tasks)
        ]
        paths.append(folder / f"{name}.jsonl")
        manifest.write(paths[-1], samples)
    return Sets(*paths)


def samples_of(take: Take, audio: Path, all_tasks: bool) -> list[Sample]:
    """What is asked of a take."""
    who = "A woman" if take.voice.sex == "female" else "A man"
    voice = next(question for question in QUESTIONS if question.name == "voice")
    asked: list[tuple[str, str, str, tuple[str, ...]]] = [("asr", "", take.text, ())]
    if all_tasks:
        asked += [
            ("caption", "", f"{who} speaks on a wideband line.", ()),
            ("paralinguistic", voice.prompt, take.voice.sex, voice.choices),
            ("semantic", TOPIC_QUESTION, PHRASES[take.text], TOPICS),
        ]
    return [
        Sample.model_validate(
            {
                "audio": audio.absolute(),
                "task": task,
                "prompt": prompt,
                "answer": answer,
                "language": "en",
                "licence": LICENCE,
                "choices": choices,
                "source": f"{take.voice.program}/{take.voice.name}",
            }
        )
        for task, prompt, answer, choices in asked
    ]
