"""The tables of a model card, from what `eureka evaluate …` reports.

In: the reports of one checkpoint, each with its name and the command that prints it. Out: Markdown. Knows no engine and
no file. Invariant: every figure stands with the number of its items and its command; what was not measured is listed
with the reason, and nothing is made up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]
# The manifests of `python -m model.train test-set`, as the card calls them.
MANIFESTS = {
    "heldout-voices-call": "held-out synthetic voices, new sentences of trained templates",
    "heldout-voices-heldout": "held-out synthetic voices, templates never trained on",
}
WAYS = {"joint": "both witnesses", "decoder": "the decoder", "ctc": "the CTC head"}


@dataclass(frozen=True)
class Measured:
    """`name`: the evaluation, of a manifest `asr NAME`. `report` is None where it failed, with the `reason`."""

    name: str
    command: str
    report: Report | None
    reason: str = ""


def rows(measured: Sequence[Measured]) -> list[str]:
    """The rows of the card's table of figures: what, figure, command."""
    lines = []
    for one in measured:
        if one.report is not None:
            for number, (what, figure) in enumerate(ROWS[one.name.split()[0]](one.name, one.report)):
                lines.append(f"| {what} | {figure} | {'same' if number else f'`{one.command}`'} |")
    return lines


def page(title: str, made: str, measured: Sequence[Measured]) -> str:
    """All tables, and what was not measured."""
    lines = [f"# {title}", "", made, "", "| what | figure | command |", "|---|---|---|", *rows(measured), ""]
    lines += _groups(measured)
    lines += _calibration(measured)
    failed = [f"- `{one.command}`: {one.reason}" for one in measured if one.report is None]
    return "\n".join(lines + (["## Not measured", "", *failed, ""] if failed else []))


def _words(name: str, report: Report) -> list[tuple[str, str]]:
    label = name.partition(" ")[2]
    what = MANIFESTS.get(label, label) if name.startswith("asr ") else LABELS[name.split()[0]]
    return [(f"{what}, WER / CER", _rate(report, "utterances"))]


def _rate(report: Report, items: str) -> str:
    wrong = round(report["wer"] * report["words"])
    between = f"{_percent(report['wer_low'])} – {_percent(report['wer_high'])}"
    return (
        f"**{_percent(report['wer'])}** ({between}) / {_percent(report['cer'])} on {report['utterances']} {items}, "
        f"{report['words']} words ({wrong} wrong), {report['times_real_time']:.0f}× real time"
    )


def _scenes(name: str, report: Report) -> list[tuple[str, str]]:
    confused = ", ".join(f"{what} ({count})" for what, count in report["confused"].items())
    right = f"**{_percent(report['question'])}** / {_percent(report['caption'])}"
    shuffled = f"{_percent(report['question_shuffled'])} / {_percent(report['caption_shuffled'])}"
    return [
        (
            f"{report['scenes']} unseen scenes, sound question / caption names the class",
            f"{right}; confused: {confused or 'none'}",
        ),
        ("the same with the audio shuffled (chance is 20 %)", shuffled),
    ]


def _nonspeech(name: str, report: Report) -> list[tuple[str, str]]:
    kinds = ", ".join(f"{kind} {count}" for kind, count in report["words"].items())
    found = [
        (
            f"words on {report['minutes']:.1f} min of silence, noise, hold music, tones, no VAD",
            f"**{sum(report['words'].values())}** ({report['words_per_minute']:.2f} per minute; {kinds})",
        ),
        (
            "the same end to end, as a worker cuts it",
            f"**{report['end_to_end_words']}** in {report['end_to_end_windows']} windows that the VAD lets through",
        ),
    ]
    if report["prompts"]:
        found.append(("recall of words on the real prompts, same run", _percent(report["prompts"]["recall"])))
    return found


def _digits(name: str, report: Report) -> list[tuple[str, str]]:
    known = {one["name"]: one for one in report["measures"]}
    found = []
    for pause in dict.fromkeys(one.partition(",")[0].partition(":")[0] for one in known):
        by = [
            f"{known[f'{pause}, by {way}: WER']['value']:.1f} % by {told}"
            for way, told in WAYS.items()
            if f"{pause}, by {way}: WER" in known
        ]
        what = f"{report['strings']} strings of real digits of a held-out speaker, {pause}, WER"
        found.append((what, ", ".join(by)))
        if f"{pause}: word starts, median absolute difference" in known:
            found.append(("word times in these, exactly known", _times_of(known, pause)))
    return found


def _times(name: str, report: Report) -> list[tuple[str, str]]:
    known = {one["name"]: one for one in report["measures"]}
    what = f"word times on {report['utterances']} prompts against an independent aligner, median difference"
    return [(what, _times_of(known, "prompts"))]


def _times_of(known: Mapping[str, Report], name: str) -> str:
    told = []
    for edge in ("starts", "ends"):
        size = known[f"{name}: word {edge}, median absolute difference"]
        signed = known[f"{name}: word {edge}, median difference (late > 0)"]
        told.append(f"{edge} {size['value']:.0f} ms ({signed['value']:+.0f}; late > 0)")
    return f"{', '.join(told)}; {size['items']} words"


def _shares(name: str, report: Report) -> list[tuple[str, str]]:
    what = LABELS[name.split()[0]]
    return [
        (
            f"{what}: {one['name']}",
            f"{one['value']:.0f} % ({one['low']:.0f} – {one['high']:.0f}) of {one['items']}"
            + (f"; {one['note']}" if one["note"] else ""),
        )
        for one in report["measures"]
    ]


LABELS = {
    "prompts": "Asterisk prompts of the test fifth (unseen texts, a trained voice)",
    "sphinx": "read speech that no training saw (LibriVox, playing cards)",
    "voices": "held-out voices",
    "events": "by name",
}
ROWS: Mapping[str, Callable[[str, Report], list[tuple[str, str]]]] = {
    "asr": _words,
    "prompts": _words,
    "sphinx": _words,
    "scenes": _scenes,
    "nonspeech": _nonspeech,
    "digits": _digits,
    "times": _times,
    "voices": _shares,
    "events": _shares,
}


def _groups(measured: Sequence[Measured]) -> list[str]:
    """Word error rates of the parts of a set, a column for each set."""
    parted = [one for one in measured if one.report is not None and one.report.get("groups")]
    if not parted:
        return []
    heads = [MANIFESTS.get(one.name.partition(" ")[2], one.name) for one in parted]
    lines = ["## By part", "", "| part | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    tables = [one.report["groups"] for one in parted if one.report is not None]
    for group in sorted({group for table in tables for group in table}):
        cells = [
            f"{_percent(table[group]['wer'])} of {table[group]['words']} words" if group in table else "—"
            for table in tables
        ]
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _calibration(measured: Sequence[Measured]) -> list[str]:
    found = [
        f"| {one.name} | {part['what']} | {part['count']} | {_percent(part['confidence'])} | "
        f"{_percent(part['accuracy'])} | {part['ece']:.2f} | {_auc(part['auc'])} |"
        for one in measured
        if one.report is not None
        for part in one.report.get("calibration", ())
    ]
    head = ["| set | confidences of | count | sure | right | ECE | AUC |", "|---|---|---|---|---|---|---|"]
    return ["## Calibration", "", *head, *found, ""] if found else []


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _auc(value: float | None) -> str:
    return "—" if value is None else f"{value:.2f}"
