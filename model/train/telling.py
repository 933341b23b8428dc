"""What can be told of a composed scene: a dense caption, and questions whose answers are known.

In: a `Truth`. Out: a caption in English; samples of a manifest (manifest.py). Knows no audio.
Invariant: whatever is told follows from the truth alone; what is not known, or not the same for all who speak, is not
told and not asked. Choices are the same in every question of a kind, in one order.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from model.train import cards
from model.train.manifest import Sample
from model.train.truth import Heard, Segment, Truth
from model.train.windows import QUESTIONS

WHO = {"female": "woman", "male": "man", None: "person"}
PACE = {"slow": ["slowly"], "normal": ["at a normal pace"], "fast": ["quickly"], None: []}
LOUDNESS = {"quiet": ["quietly"], "normal": [], "loud": ["loudly"], None: []}
WOMAN_OR_MAN = ("a woman", "a man")
COUNTS = ("one", "two", "three")
EVENT_CHOICES = (
    "nothing", "a crying baby", "a chainsaw", "a ticking clock", "a barking dog", "a crackling fire", "a helicopter",
    "a sneeze", "rain", "a crowing rooster", "sea waves",
)  # fmt: skip


def caption(truth: Truth) -> str:
    """Who speaks and how, what else is heard, on which lines, in the order in which it begins."""
    told: list[str] = []
    met: dict[str, str] = {}
    for part in truth.in_order:
        text = _sound(part, truth) if isinstance(part, Heard) else _speech(part, met, truth)
        if not told or text != told[-1]:
            told.append(text)
    if truth.overlaps:
        told.append("they talk over each other")
    return ". ".join(text[0].upper() + text[1:] for text in (*told, *_lines(truth))) + "."


def _speech(part: Segment, met: dict[str, str], truth: Truth) -> str:
    """Whoever was not heard before is described; then it is only said who goes on."""
    if part.speaker in met:
        return "then they take turns" if len(met) > 1 else f"then the {met[part.speaker]} goes on"
    who = WHO[part.gender]
    article = "another" if who in met.values() else "a"
    met[part.speaker] = who
    start = "then " if part is not truth.in_order[0] else ""
    how = " and ".join(PACE[part.pace] + LOUDNESS[part.loudness])
    return f"{start}{article} {who} speaks {how}".rstrip()


def _sound(part: Heard, truth: Truth) -> str:
    if part.kind == "event":
        beside = any(
            s.start_sample < part.end_sample and part.start_sample < s.end_sample for s in truth.segments
        )
        return f"{part.detail} is heard{' while somebody speaks' if beside else ''}"
    start = "then " if part is not truth.in_order[0] else ""
    if part.kind == "tones":
        return f"{start}signal tones are heard: {part.detail}"
    return f"{start}{part.detail} is heard"


def _lines(truth: Truth) -> Iterator[str]:
    """What is true of the channels; one sentence when they are alike."""
    names = ("",) if len(truth.channels) == 1 else ("on the first channel ", "on the second channel ")
    said = []
    for channel in truth.channels:
        text = f"the line is {'a telephone line' if channel.line == 'telephone' else 'wideband'}"
        if channel.background != "clean":
            text += f" with {channel.background} in the background"
        if channel.lost_packets:
            text += " and drops out at times"
        said.append(text)
    if len(set(said)) == 1:
        yield said[0] if len(said) == 1 else said[0].replace("the line is", "each line is", 1)
    else:
        yield from (name + text for name, text in zip(names, said, strict=True))


class Asked(NamedTuple):
    """A closed question."""

    prompt: str
    choices: tuple[str, ...]
    answer: str


def questions(truth: Truth) -> Iterator[Asked]:
    """Closed questions: those of the windows where all who speak agree, and those that only a scene can answer."""
    known: dict[str, set[str | None]] = {
        "voice": {s.gender for s in truth.segments},
        "pace": {s.pace for s in truth.segments},
        "line": {c.line for c in truth.channels},
        "background": {c.background for c in truth.channels},
    }
    for question in QUESTIONS:
        answers = known.get(question.name, set())
        if len(answers) == 1 and (answer := next(iter(answers))) is not None:
            yield Asked(question.prompt, question.choices, answer)
    if len(truth.speakers) <= len(COUNTS):
        yield Asked("How many people speak?", COUNTS, COUNTS[len(truth.speakers) - 1])
    yield Asked("Do people speak at the same time?", ("yes", "no"), "yes" if truth.overlaps else "no")
    loud = {s.loudness for s in truth.segments}
    if len(loud) == 1 and (answer := next(iter(loud))) is not None:
        yield Asked("How loud is the speech?", ("quiet", "normal", "loud"), answer)
    first, last = (truth.segments[i] for i in (0, -1))
    if len(truth.speakers) > 1 and {first.gender, last.gender} <= {"female", "male"}:
        yield Asked("Who speaks first?", WOMAN_OR_MAN, f"a {WHO[first.gender]}")
        if not any(s is not last and s.end_sample > last.start_sample for s in truth.segments):
            yield Asked("Who speaks last?", WOMAN_OR_MAN, f"a {WHO[last.gender]}")
    yield from _about_sounds(truth)


def _about_sounds(truth: Truth) -> Iterator[Asked]:
    """What is heard before anybody speaks, and which event."""
    kinds = ("nothing", "music", "tones", "noise")
    before = [s for s in truth.sounds if s.kind in kinds and s.end_sample <= truth.segments[0].start_sample]
    if len(before) <= 1:
        answer = str(before[0].kind) if before else "nothing"
        yield Asked("What is heard before the speech?", kinds, answer)
    events = {s.detail for s in truth.sounds if s.kind == "event"}
    if len(events) <= 1 and events <= set(EVENT_CHOICES):
        yield Asked("Which event is heard?", EVENT_CHOICES, next(iter(events), EVENT_CHOICES[0]))


def samples(truth: Truth, audio: Path) -> list[Sample]:
    """A scene's lines of a manifest: the transcript, the caption, the questions; licence and source from the cards.

    Where people speak at once the words have no one order, so no transcript is asked.
    """
    common = {
        "audio": audio,
        "language": "en",
        "licence": cards.licence(truth.sources),
        "source": "scene: " + ", ".join(truth.sources),
    }
    lines = [{"task": "caption", "prompt": "", "answer": caption(truth)}]
    if not truth.overlaps:
        lines.insert(0, {"task": "asr", "prompt": "", "answer": truth.text})
    asked = [{"task": "paralinguistic", **question._asdict()} for question in questions(truth)]
    return [Sample.model_validate(common | line) for line in (*lines, *asked)]
