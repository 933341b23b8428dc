"""What the commands share: options with one meaning, settings, printing.

In: values. Out: lines on standard output; progress on standard error. It knows no command.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workers.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line, for a machine to read.")]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights: a .safetensors file or a released folder. Default: the setting.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N. Default: the setting.")]
RecordingsFolder = Annotated[Path, typer.Option(help="Folder of the demo's recordings, fetched if absent.")]
Sounds = Annotated[
    Path | None,
    typer.Option(
        exists=True, file_okay=False, help="Recorded sound events, CLASS/FOLD-….ogg, used beside the others."
    ),
]
RECORDINGS = Path("build/recordings")


def settings() -> "Settings":
    """The settings of this process; wrong ones end it with one line per field."""
    from workers.settings import SettingsError, load_settings

    try:
        return load_settings()
    except SettingsError as error:
        sys.exit("eureka: settings: %s" % error)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A checkpoint or a file that cannot be used ends the command with one line on standard error."""
    from av import FFmpegError

    from model.checkpoint import CheckpointError

    try:
        yield
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (FFmpegError, OSError) as error:
        sys.exit("eureka: %s" % (": ".join(filter(None, (error.filename, error.strerror))) or error))
    except (CheckpointError, ValueError) as error:
        sys.exit("eureka: %s" % error)


def say(line: str) -> None:
    """Progress, for people."""
    typer.echo(line, err=True)


def show(items: Iterable[Any], as_json: bool) -> int:
    """Each item as a line, or as one JSON object; returns how many."""
    from workers.cli_output import as_line, as_record

    shown = 0
    for item in items:
        typer.echo(json.dumps(as_record(item), ensure_ascii=False) if as_json else as_line(item))
        shown += 1
    return shown
