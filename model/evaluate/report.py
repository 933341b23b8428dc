"""One page that compares checkpoints: figures and their differences, calibration, confusions, worst utterances.

In: findings of one or more checkpoints, the names of the pictures. Out: Markdown, and the same for a machine. Knows no
engine. Invariant: every figure stands with the number of its items and its interval; a difference is told only between
measures of the same items, and is called none where its interval holds zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from model.evaluate.findings import Findings
from model.evaluate.measures import Interval, Measure

PICTURES = {
    "shares": "All shares with their intervals",
    "reliability": "Reliability: of what is called so sure, how much is right",
    "confusions": "Which answer is given for which truth",
}


def page(all_findings: Sequence[Findings], pictures: Sequence[str], made: str) -> str:
    """The report; `made` says when and by what command."""
    lines = ["# Evaluation", "", made, ""]
    lines += ["| checkpoint | engine | device |", "|---|---|---|"]
    lines += [f"| {one.checkpoint} | {one.engine} | {one.device} |" for one in all_findings]
    lines += ["", "## Figures", "", *_table(all_findings), ""]
    lines += [
        "95 % intervals: a bootstrap over items, Wilson's for shares of items; differences to the first "
        "checkpoint, in pairs. No difference: its interval holds zero.",
        "",
    ]
    lines += _calibration(all_findings)
    for name in pictures:
        lines += [f"## {PICTURES[name.partition('.')[0].partition('-')[0]]}", "", f"![{name}]({name})", ""]
    lines += _worst(all_findings)
    missing = list(dict.fromkeys(text for one in all_findings for text in one.missing))
    if missing:
        lines += ["## Not measured", "", *(f"- {text}" for text in missing), ""]
    return "\n".join(lines)


def as_json(all_findings: Sequence[Findings]) -> list[dict[str, Any]]:
    """Each checkpoint's findings, measures with their intervals in place of their items."""
    return [
        {
            "checkpoint": one.checkpoint,
            "engine": one.engine,
            "device": one.device,
            "measures": [record(measure) for measure in one.measures],
            "calibration": [asdict(part) for part in one.reliabilities],
            "confusions": [
                {
                    "of": of,
                    "question": part.question,
                    "rows": part.rows,
                    "columns": part.columns,
                    "counts": part.counts,
                }
                for of, part in one.confusions
            ],
            "missing": one.missing,
        }
        for one in all_findings
    ]


def record(measure: Measure) -> dict[str, Any]:
    """A measure for a machine."""
    found = measure.interval()
    return {
        "name": measure.name,
        "value": _rounded(found.value),
        "low": _rounded(found.low),
        "high": _rounded(found.high),
        "unit": measure.unit,
        "items": measure.items,
        "note": measure.note,
    }


def _table(all_findings: Sequence[Findings]) -> list[str]:
    first, *others = all_findings
    head = ["figure", "unit", "items", first.checkpoint]
    head += [text for one in others for text in (one.checkpoint, "difference")]
    lines = ["| " + " | ".join([*head, ""]) + " |", "|" + "---|" * (len(head) + 1)]
    known = [{measure.name: measure for measure in one.measures} for one in all_findings]
    for name in dict.fromkeys(name for some in known for name in some):
        sample = next(some[name] for some in known if name in some)
        arrow = "↓" if sample.better == "lower" else "↑"
        cells = [f"{_plain(name)} {arrow}", sample.unit, str(sample.items), _cell(known[0].get(name))]
        for some in known[1:]:
            cells += [_cell(some.get(name)), _difference(some.get(name), known[0].get(name))]
        notes = dict.fromkeys(some[name].note for some in known if name in some)
        lines.append("| " + " | ".join([*cells, "; ".join(filter(None, notes))]) + " |")
    return lines


def _cell(measure: Measure | None) -> str:
    return "—" if measure is None else _told(measure.interval())


def _told(one: Interval) -> str:
    return f"{one.value:.2f} ({one.low:.2f} – {one.high:.2f})"


def _difference(this: Measure | None, first: Measure | None) -> str:
    if this is None or first is None:
        return "—"
    found = this.minus(first)
    if found is None:
        return "other items"
    if found.low <= 0 <= found.high:
        return f"none: {found.value:+.2f} ({found.low:+.2f} – {found.high:+.2f})"
    good = (found.value < 0) == (this.better == "lower")
    return f"{'better' if good else 'worse'}: {found.value:+.2f} ({found.low:+.2f} – {found.high:+.2f})"


def _calibration(all_findings: Sequence[Findings]) -> list[str]:
    rows = [
        f"| {found.checkpoint} | {one.what} | {one.count} | {one.confidence:.3f} | {one.accuracy:.3f} | "
        f"{one.confidence - one.accuracy:+.3f} | {one.ece:.3f} | {'—' if one.auc is None else f'{one.auc:.3f}'} |"
        for found in all_findings
        for one in found.reliabilities
    ]
    if not rows:
        return []
    return [
        "## Calibration of confidences",
        "",
        "| checkpoint | confidences of | count | said, mean | right | too sure by | ECE | AUC |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        "A transcript is right when no word of it is wrong, a word when it was said. ECE: expected calibration error "
        "(arXiv 1706.04599), ten bins. AUC: the chance that a right one is surer than a wrong one.",
        "",
    ]


def _worst(all_findings: Sequence[Findings]) -> list[str]:
    lines: list[str] = []
    for found in all_findings:
        if found.worst:
            lines += [f"## Worst utterances: {found.checkpoint}", ""]
            lines += ["| set | errors / words | said | heard |", "|---|---|---|---|"]
            lines += [
                f"| {one.of} | {one.errors} / {one.words} | {_plain(one.said)} | {_plain(one.heard) or '(nothing)'} |"
                for one in found.worst
            ]
            lines.append("")
    return lines


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 4)
