"""Who says what: the plan of the synthetic speech.

In: seed, sources, number of clips per program. Out: one JSON-lines file per program and split, each line
{"id", "text", "program", "voice", "sex", "pace", "rate", "source", "text_source", "licence"}: `source` is the kind of
text (call, open, heldout), `text_source` its data card. Makes no audio.
Invariant: a pure function of its arguments; the training plan holds no held-out voice, no held-out template and no
text of the Asterisk test fifth.
"""

import json
import random
from collections.abc import Mapping
from pathlib import Path

from model.evaluate.holdout import prompts
from model.train import cards, texts
from model.train.voices import HELD_OUT, Program, Voice, draw_rate, draw_voice

# Clips of the test plan per held-out voice and kind of text.
TEST_CLIPS = 12
OPEN_SHARE = 0.5


def write_plans(
    out: Path,
    asterisk: Path,
    sentence_file: Path,
    wordnet: Path | None,
    clips: Mapping[Program, int],
    seed: int,
    earlier: int = 0,
) -> None:
    """Write `<program>.jsonl` for training and `test-<program>.jsonl` for the held-out voices.

    A run that goes on from a checkpoint gives as `earlier` how many sentences of a kind that one was trained on at
    most: the plan's sentences come after them, and the tests' sentences are neither.
    """
    rng = random.Random(seed)
    test_texts = texts.TestTexts(list(prompts(asterisk).values()))
    total = sum(clips.values())
    found = texts.open_sentences(rng, sentence_file, wordnet)
    open_texts = [text for text in found if not test_texts.betrays(text)][
        earlier : earlier + int(total * OPEN_SHARE)
    ]
    known = texts.unique_sentences(texts.call_center(rng), test_texts, earlier + total - len(open_texts))
    calls = known[earlier:]
    said = [(text, "call", "templates") for text in calls] + [
        (text, "open", found[text]) for text in open_texts
    ]
    rng.shuffle(said)
    out.mkdir(parents=True, exist_ok=True)
    queue = iter(said)
    for program, count in clips.items():
        lines = [
            _line(f"{program}-{i:06d}", *next(queue), draw_voice(program, rng), rng) for i in range(count)
        ]
        (out / f"{program}.jsonl").write_text("".join(lines), encoding="utf-8")
    _write_test(out, set(known), test_texts, rng)


def _write_test(out: Path, trained: set[str], test_texts: texts.TestTexts, rng: random.Random) -> None:
    """Held-out voices: as many sentences of the training templates (none of them trained on) as of unseen ones."""
    per_program: dict[str, list[str]] = {}
    known = (text for text in texts.call_center(rng) if text not in trained and len(text.split()) > 2)
    for voice in HELD_OUT:
        seen = texts.unique_sentences(known, test_texts, TEST_CLIPS)
        unseen = texts.heldout_sentences(rng, TEST_CLIPS)
        rng.shuffle(unseen)
        for i, (text, source) in enumerate([(t, "call") for t in seen] + [(t, "heldout") for t in unseen]):
            line = _line(f"test-{voice.name}-{i:03d}", text, source, "templates", voice, rng)
            per_program.setdefault(voice.program, []).append(line)
    for program, lines in per_program.items():
        (out / f"test-{program}.jsonl").write_text("".join(lines), encoding="utf-8")


def _line(identity: str, text: str, source: str, text_source: str, voice: Voice, rng: random.Random) -> str:
    pace, rate = draw_rate(rng)
    item = {
        "id": identity,
        "text": text,
        "program": voice.program,
        "voice": voice.name,
        "sex": voice.sex,
        "pace": pace,
        "rate": rate,
        "source": source,
        "text_source": text_source,
        "licence": cards.licence((voice.program, text_source)),
    }
    return json.dumps(item) + "\n"
