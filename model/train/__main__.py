"""Command line of the training: `python -m model.train nano --help`, or one step of it by name.

The steps, in order: import-whisper, plan, synthesise, features, fit, export; `nano` does them all, `test-set` writes
the manifests of the held-out voices.
"""

import argparse
from pathlib import Path

from model.train import nano

CHECKPOINT = Path(__file__).parents[1] / "checkpoints" / "nano.safetensors"


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    folders = _folders(arguments.work, arguments.data)
    if arguments.what == "test-set":
        for path in nano.write_test_set(folders):
            print(path)
        return
    stages = nano.stages(arguments.joint_steps, arguments.decoder_steps)
    recipe = nano.Recipe(
        stages=stages,
        threads=arguments.threads,
        start=arguments.start,
        earlier=arguments.earlier,
        sources=tuple(arguments.sources),
    )
    steps = nano.STEPS if arguments.what == "nano" else (arguments.what,)
    arguments.work.mkdir(parents=True, exist_ok=True)
    nano.run(folders, recipe, steps, arguments.out)


def _folders(work: Path, data: Path) -> nano.Folders:
    """The layout of the data folder (README.md); what is not there is left out, except what training cannot miss."""

    def there(name: str) -> Path | None:
        return data / name if (data / name).exists() else None

    python = work / "neural" / "bin" / "python"
    return nano.Folders(
        work=work,
        whisper_parts=tuple(sorted((data / "whisper").glob("model.bin*"))),
        asterisk=data / "asterisk",
        sentences=data / "sentences.txt",
        wordnet=there("wordnet"),
        esc10=there("esc10"),
        digits=there("fsdd"),
        read_speech=there("ls_train100.json"),
        kokoro=there("kokoro"),
        piper=there("piper/en_US-joe-medium.onnx"),
        neural_python=python if python.exists() else None,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model.train", description="Train the nano checkpoint.")
    parser.add_argument(
        "what", choices=("nano", "test-set", *nano.STEPS), help="the whole recipe, or one step"
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for everything that is made on the way"
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the public data, laid out as README.md says"
    )
    parser.add_argument(
        "--out", type=Path, default=CHECKPOINT, help="the checkpoint; default: the shipped one"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, default=None, help="go on from the weights of this checkpoint")
    parser.add_argument(
        "--earlier",
        type=int,
        default=0,
        help="plan: sentences of a kind that --start was trained on, at most",
    )
    parser.add_argument("--sources", nargs="*", default=[], help="features: only of these; default: all")
    parser.add_argument(
        "--joint-steps", type=int, default=nano.JOINT_STEPS, help="steps of everything that is trained"
    )
    parser.add_argument(
        "--decoder-steps", type=int, default=nano.DECODER_STEPS, help="steps of the decoder alone after that"
    )
    return parser


if __name__ == "__main__":
    main()
