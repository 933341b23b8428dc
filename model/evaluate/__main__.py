"""Command line of the evaluations: `python -m model.evaluate asr|prompts|scenes|nonspeech --help`.

Prints what was measured; with --json one JSON object. Exit status 0 says that it ran, not that the figures are good.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.engine import Engine
from model.evaluate import asr, nonspeech, scenes

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "nano.safetensors"


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    engine = Engine.open(arguments.checkpoint, device=arguments.device, threads=arguments.threads)
    report = run(engine, arguments)
    report["engine"] = f"{engine.name} {engine.version} on {engine.device}"
    if arguments.json:
        print(json.dumps(report))
    else:
        for name, value in report.items():
            print(f"{name}: {value}")


def run(engine: Engine, arguments: argparse.Namespace) -> dict[str, Any]:
    """One evaluation as a flat report."""
    if arguments.what in ("asr", "prompts"):
        references = (
            asr.read_manifest(arguments.manifest)
            if arguments.what == "asr"
            else asr.test_prompts(arguments.asterisk)
        )
        report = asdict(asr.evaluate(references, asr.engine_transcriber(engine)))
        pairs = report.pop("pairs")
        if arguments.show:
            report["pairs"] = pairs
        return report
    if arguments.what == "scenes":
        made = scenes.build(arguments.asterisk, arguments.esc10, arguments.count)
        return asdict(scenes.evaluate(engine, made))
    references = asr.test_prompts(arguments.asterisk)
    return asdict(nonspeech.evaluate(engine, arguments.asterisk, arguments.esc10, references))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description="Measure a checkpoint.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="default: the shipped nano checkpoint"
    )
    common.add_argument("--device", default="auto", help="auto, cpu or cuda")
    common.add_argument("--threads", type=int, default=None)
    common.add_argument("--json", action="store_true", help="one JSON object")
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument(
        "--asterisk", type=Path, required=True, help="unpacked Debian packages (holds usr/share/asterisk)"
    )
    data.add_argument("--esc10", type=Path, default=None, help="folder of sound events, CLASS/FOLD-….ogg")
    commands = parser.add_subparsers(dest="what", required=True)
    manifest = commands.add_parser("asr", parents=[common], help="word error rate on a manifest")
    manifest.add_argument("--manifest", type=Path, required=True, help='lines {"audio", "text", "group"?}')
    manifest.add_argument("--show", action="store_true", help="print every reference and what was heard")
    test = commands.add_parser(
        "prompts", parents=[common, data], help="word error rate on the test-fifth prompts"
    )
    test.add_argument("--show", action="store_true", help="print every reference and what was heard")
    scene = commands.add_parser(
        "scenes", parents=[common, data], help="sound classes on unseen scenes, and shuffled"
    )
    scene.add_argument("--count", type=int, default=100)
    commands.add_parser(
        "nonspeech", parents=[common, data], help="words invented on non-speech; recall on prompts"
    )
    return parser


if __name__ == "__main__":
    main()
