"""The report of a run: how much was kept, what was discarded and why, how often the models agreed.

In: outcomes, the journal's lines, who did what. Out: a report as JSON and as a page (Markdown). Knows no model.
Invariants: a pure function of its arguments; shares carry the counts they come from; no key and no address is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from model.dataflux.outcomes import ClipOutcome, Outcome
from model.dataflux.values import LETTERS


@dataclass(frozen=True)
class Share:
    """`of` counted, `count` of them; `share` is None where there was nothing to count."""

    count: int
    of: int
    share: float | None


@dataclass(frozen=True)
class Category:
    """The questions of one category."""

    category: str
    written: int
    kept: int
    hard: int
    consensus: Share


@dataclass(frozen=True)
class Model:
    """One answerer: `right` by the writer's key, of the questions that it answered; `chosen` by position."""

    name: str
    described: str
    answered: int
    cannot_tell: int
    unusable: int
    right: Share
    chosen: dict[str, int]


@dataclass(frozen=True)
class Report:
    """`questions_discarded` and `clips_discarded` count by reason, `rules_broken` what writers broke, `unusable` every
    reply that could not be used, by step and reason, those included that were asked for again with success."""

    prompts: str
    roles: dict[str, str]
    clips: int
    audio_s: float
    clips_discarded: dict[str, int]
    questions: int
    kept: Share
    hard: Share
    consensus: Share
    questions_discarded: dict[str, int]
    rules_broken: dict[str, int]
    unusable: dict[str, int]
    consistency: dict[str, int]
    winners: dict[str, int]
    key_positions: dict[str, int]
    categories: tuple[Category, ...]
    models: tuple[Model, ...]


def report(
    clips: Sequence[ClipOutcome],
    lines: Iterable[Mapping[str, Any]],
    described: Mapping[str, str],
    answerers: Sequence[str],
    version: str,
) -> Report:
    """Count."""
    every = [one for clip in clips for one in clip.items]
    kept = [one for one in every if one.kept]
    unusable = _unusable(lines)
    rules: Counter[str] = Counter()
    for clip in clips:
        rules.update(clip.rejected)
    return Report(
        prompts=version,
        roles=dict(described),
        clips=len(clips),
        audio_s=round(sum(clip.origin.seconds for clip in clips if clip.origin is not None), 1),
        clips_discarded=_counted(clip.discarded for clip in clips if clip.discarded is not None),
        questions=len(every),
        kept=_share(len(kept), len(every)),
        hard=_share(sum(one.hard for one in kept), len(kept)),
        consensus=_consensus(every),
        questions_discarded=_counted(one.fate for one in every if not one.kept),
        rules_broken=_counted(rules.elements()),
        unusable=_counted(f"{step}: {reason}" for step, reason in unusable),
        consistency=_counted(one.verdict.consistency_with_caption for one in every if one.verdict),
        winners=_counted(one.winner for one in every if one.winner is not None),
        key_positions=_counted(LETTERS[one.item.key] for one in every),
        categories=tuple(_category(name, every) for name in sorted({one.item.category for one in every})),
        models=tuple(_model(name, every, described, unusable) for name in answerers),
    )


def page(told: Report, drawn: Sequence[str]) -> str:
    """The report for people, with the pictures that were drawn."""
    lines = [
        "# DataFlux report",
        "",
        f"{told.clips} clips, {told.audio_s / 60:.1f} min of audio; {told.questions} questions. "
        f"Kept {_told(told.kept)}; of these hard (only one model was right) {_told(told.hard)}. "
        f"The models agreed on {_told(told.consensus)}.",
        "",
        *(f"![{name.removesuffix('.png')}]({name})" for name in drawn),
        "",
        f"Prompts: version {told.prompts}.",
        "",
        *_table(("role", "who"), told.roles.items()),
        "## Categories",
        *_table(
            ("category", "written", "kept", "hard", "consensus"),
            ((c.category, c.written, c.kept, c.hard, _told(c.consensus)) for c in told.categories),
        ),
        "## Models",
        *_table(
            ("model", "answered", "cannot tell", "unusable", "right by the key", "options chosen"),
            (
                (m.name, m.answered, m.cannot_tell, m.unusable, _told(m.right), _said(m.chosen))
                for m in told.models
            ),
        ),
        "## Discarded",
        *_table(("question", "count"), told.questions_discarded.items()),
        *_table(("clip", "count"), told.clips_discarded.items()),
        "## Also counted",
        *_table(
            ("what", "count"),
            (
                ("rules broken by written questions", _said(told.rules_broken)),
                ("replies that could not be used", _said(told.unusable)),
                ("consistency with the caption", _said(told.consistency)),
                ("winners", _said(told.winners)),
                ("places of the right option", _said(told.key_positions)),
            ),
        ),
    ]
    return "\n".join(lines) + "\n"


def as_json(told: Report) -> dict[str, Any]:
    return asdict(told)


def _category(name: str, every: Sequence[Outcome]) -> Category:
    mine = [one for one in every if one.item.category == name]
    kept = [one for one in mine if one.kept]
    return Category(name, len(mine), len(kept), sum(one.hard for one in kept), _consensus(mine))


def _model(
    name: str, every: Sequence[Outcome], described: Mapping[str, str], unusable: Sequence[tuple[str, str]]
) -> Model:
    answers = [(one, one.answers[name]) for one in every]
    chosen = [(one, a.choice) for one, a in answers if a is not None and a.choice is not None]
    return Model(
        name=name,
        described=described.get(f"answerer {name}", ""),
        answered=len(chosen),
        cannot_tell=sum(a is not None and a.choice is None for _, a in answers),
        unusable=sum(step == f"answer {name}" for step, _ in unusable),
        right=_share(sum(one.item.key == choice for one, choice in chosen), len(chosen)),
        chosen=_counted(LETTERS[choice] for _, choice in chosen),
    )


def _unusable(lines: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """(step, reason) of every reply that could not be used; a step's number is left out."""
    found = []
    for line in lines:
        parts = line["step"].split("/")
        step = f"answer {parts[2]}" if len(parts) == 3 else parts[0]
        found += [(step, reason) for reason in line.get("unusable", ())]
    return found


def _consensus(every: Sequence[Outcome]) -> Share:
    judged = [one.verdict for one in every if one.verdict is not None]
    return _share(sum(verdict.consensus for verdict in judged), len(judged))


def _share(count: int, of: int) -> Share:
    return Share(count, of, round(count / of, 4) if of else None)


def _counted(names: Iterable[str]) -> dict[str, int]:
    """Most frequent first; equals by name."""
    return dict(sorted(Counter(names).items(), key=lambda one: (-one[1], one[0])))


def _told(share: Share) -> str:
    percent = "" if share.share is None else f" ({100 * share.share:.0f} %)"
    return f"{share.count} of {share.of}{percent}"


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    body = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    if not body:
        return ["", f"No {head[0]}.", ""]
    return ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body, ""]
