"""`eureka evaluate card`: every evaluation of the model card in a row, into one folder, resumable step by step.

In: settings, a checkpoint, the held-out data at hand. Out: `STEP.json` for each evaluation and `card.md`. It measures
nothing itself. Invariant: a step's file is written when the step is complete, and counts only for the same weights
(SHA-256), precision and inputs; a step that cannot be made stops no other and is told.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.engine import Engine
from model.evaluate.card import Measured, page
from model.verify import digest_of
from streams.errors import EurekaError
from workers import evaluate
from workers.settings import Settings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Data:
    """Held-out data; None where there is none. `recordings` is the folder of the demo's."""

    recordings: Path
    manifests: tuple[Path, ...] = ()
    sounds: Path | None = None
    takes: Path | None = None
    sphinx: Path | None = None
    windows: int = 100


@dataclass(frozen=True)
class Step:
    """`inputs`: what the figure depends on besides weights and precision, for a machine to compare."""

    name: str
    command: str
    inputs: tuple[str, ...]
    run: Callable[[Engine], dict[str, Any]]

    @property
    def file(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name) + ".json"


def steps(data: Data, settings: Settings, say: Say) -> list[Step]:
    """All evaluations that the data allow, those that are quoted most first.

    Raises ValueError for two manifests of one name.
    """

    def asterisk() -> Path:
        return evaluate.asterisk_folder(data.recordings, say)

    def of_manifest(path: Path) -> Step:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        return Step(
            f"asr {path.stem}",
            f"eureka evaluate asr --manifest {path}",
            (content,),
            lambda engine: evaluate.on_manifest(engine, path),
        )

    prompts = (str(data.recordings.absolute()),)
    sounds = "" if data.sounds is None else f" --sounds {data.sounds}"
    digits = "" if data.takes is None else f" --digits {data.takes}"
    found = [of_manifest(path) for path in data.manifests]
    found += [
        Step("prompts", "eureka evaluate prompts", prompts, lambda e: evaluate.on_prompts(e, asterisk())),
        Step(
            "scenes",
            f"eureka evaluate scenes{sounds}",
            (*prompts, sounds, str(data.windows)),
            lambda e: evaluate.on_scenes(e, asterisk(), data.sounds, data.windows),
        ),
        Step(
            "nonspeech",
            f"eureka evaluate nonspeech{sounds}",
            (*prompts, sounds),
            lambda e: evaluate.on_nonspeech(e, asterisk(), data.sounds, settings),
        ),
        Step(
            "times", "eureka evaluate times", prompts, lambda e: evaluate.on_times(e, None, asterisk(), True)
        ),
        Step(
            "voices",
            f"eureka evaluate voices{sounds}{digits}",
            (*prompts, sounds, digits, str(data.windows)),
            lambda e: evaluate.on_voices(e, asterisk(), data.sounds, data.takes, None, data.windows),
        ),
    ]
    if (takes := data.takes) is not None:
        command = f"eureka evaluate digits{digits}"
        found.append(Step("digits", command, (digits,), lambda e: evaluate.on_digits(e, takes, 60)))
    if (folder := data.sounds) is not None:
        command = f"eureka evaluate events{sounds}"
        found.append(Step("events", command, (sounds,), lambda e: evaluate.on_events(e, folder)))
    if (corpus := data.sphinx) is not None:
        command = f"eureka evaluate asr --corpus sphinx --folder {corpus}"
        found.append(
            Step("sphinx", command, (str(corpus),), lambda e: evaluate.on_corpus(e, "sphinx", corpus))
        )
    twice = sorted({one.name for one in found if [other.file for other in found].count(one.file) > 1})
    if twice:
        raise ValueError(f"two manifests have one name: {', '.join(twice)}")
    return found


def on_card(
    settings: Settings,
    checkpoint: Path,
    device: str | None,
    todo: Sequence[Step],
    out: Path,
    again: bool,
    say: Say,
) -> list[Measured]:
    """Make what is not made yet, then the page; both are there after every step.

    Raises CheckpointError. `again`: also what is made.
    """
    out.mkdir(parents=True, exist_ok=True)
    digest = digest_of(checkpoint)
    engine: Engine | None = None
    measured: list[Measured] = []
    for number, step in enumerate(todo, 1):
        key = {
            "sha256": digest,
            "half": settings.engine_half,
            "device": device or settings.device,
            "inputs": list(step.inputs),
        }
        report = None if again else _made(out / step.file, key)
        say("%d/%d %s%s" % (number, len(todo), step.name, "" if report is None else ": made before"))
        reason = ""
        if report is None:
            engine = engine or evaluate.open_engine(settings, checkpoint, device)
            try:
                report = step.run(engine)
            except (ValueError, OSError, EurekaError) as error:
                reason = str(error)
                say("%s: %s" % (step.name, reason))
            else:
                _write(
                    out / step.file, json.dumps(key | {"command": step.command, "report": report}, indent=1)
                )
        measured.append(Measured(step.name, step.command, report, reason))
        _write(out / "card.md", _page(checkpoint, digest, settings, measured))
    return measured


def _page(checkpoint: Path, digest: str, settings: Settings, measured: Iterable[Measured]) -> str:
    found = list(measured)
    report = next((one.report for one in found if one.report is not None), None)
    name = checkpoint.stem if report is None else "%s %s" % (report["model"], report["version"])
    half = "bf16 products where the processor has them" if settings.engine_half else "fp32"
    on = "" if report is None else " on %s" % report["device"]
    return page(
        "Figures of %s" % name, "`%s`, SHA-256 `%s`; %s%s." % (checkpoint.name, digest, half, on), found
    )


def _made(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The report in a step's file, when it is of the same weights and inputs. A file that is no such thing is none."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("report"), dict):
        return None
    same = all(found.get(name) == value for name, value in key.items())
    report: dict[str, Any] | None = found["report"] if same else None
    return report


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")  # another process may write the same page
    partial.write_text(text.rstrip() + "\n", encoding="utf-8")
    partial.replace(path)
