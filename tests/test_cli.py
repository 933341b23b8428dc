"""The `eureka` command: help that a stranger understands, JSON that a machine can read, failures of one line."""

import importlib.metadata
import json
import os
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from workers import recordings
from workers.cli import app
from workers.cli_output import as_line, as_record
from workers.tail import Tailed

ROOT = Path(__file__).parent.parent
COMMANDS = {
    ("demo",),
    ("worker",),
    ("health",),
    ("send",),
    ("tail",),
    ("transcribe",),
    ("doctor",),
    ("topics", "create"),
    ("topics", "check"),
    ("db", "upgrade"),
    ("db", "check"),
    ("db", "roles"),
    ("deadletters", "list"),
    ("deadletters", "show"),
    ("deadletters", "requeue"),
    ("replay",),
    ("erase",),
    ("retention",),
    ("evaluate", "asr"),
    ("evaluate", "prompts"),
    ("evaluate", "scenes"),
    ("evaluate", "nonspeech"),
    ("evaluate", "digits"),
    ("evaluate", "times"),
    ("evaluate", "events"),
    ("evaluate", "voices"),
    ("evaluate", "choices"),
    ("evaluate", "paper"),
    ("evaluate", "report"),
    ("evaluate", "card"),
    ("evaluate", "examples"),
    ("dataflux", "run"),
    ("dataflux", "score"),
    ("dataflux", "harvest"),
    ("checkpoint", "verify"),
    ("checkpoint", "compare"),
    ("checkpoint", "promote"),
    ("bench", "ingest"),
    ("bench", "engine"),
    ("bench", "e2e"),
    ("bench", "roofline"),
    ("bench", "growth"),
    ("bench", "soak"),
}
SILENT = {("worker",)}  # speaks in logs


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path: command}
    return {leaf: found for name, one in inner.items() for leaf, found in leaves(one, (*path, name)).items()}


def eureka(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("EUREKA_", "DATABASE_URL"))
    }
    return subprocess.run(
        [sys.executable, "-m", "workers.cli", *arguments],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_are_those_of_the_readme() -> None:
    found = leaves(get_command(app))
    assert set(found) == COMMANDS
    readme = (ROOT / "README.md").read_text()
    assert [path for path in COMMANDS if "eureka " + " ".join(path) not in readme] == []


@pytest.mark.parametrize("path", sorted(COMMANDS), ids=" ".join)
def test_every_command_and_option_explains_itself(path: tuple[str, ...]) -> None:
    command = leaves(get_command(app))[path]
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert len((command.help or "").split()) >= 6
    unexplained = [p.name for p in command.params if p.name != "help" and not getattr(p, "help", None)]
    assert unexplained == []
    assert ("--json" in result.output) != (path in SILENT)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom workers.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'faust', 'numpy', 'sqlalchemy', 'av', 'kafka'} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(heavy)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_tells_what_is_missing_and_no_secret() -> None:
    url = "postgresql://someone:canary-word@127.0.0.1:1/nothing"
    done = eureka(
        "doctor",
        "--json",
        EUREKA_BROKERS="127.0.0.1:1",
        EUREKA_CHECKPOINT="nowhere.safetensors",
        DATABASE_URL=url,
    )
    findings = {item["name"]: item for item in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1
    assert findings["python"]["state"] == "ok"
    assert findings["broker"]["state"] == "missing"
    assert findings["codecs"]["state"] == "ok"
    assert "gzip, snappy, lz4, zstd" in findings["codecs"]["detail"]
    assert findings["database"]["state"] == "missing"
    assert "nowhere.safetensors" in findings["checkpoint"]["detail"]
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("db", "check"), {}, "no database is named: set EUREKA_DATABASE_URL or DATABASE_URL"),
        (("transcribe", "tests"), {}, "'tests' is a directory"),
        (("topics", "check"), {"EUREKA_BROKERS": "127.0.0.1:1"}, "no broker at 127.0.0.1:1"),
        (("topics", "check"), {"EUREKA_TICK_INTERVAL_S": "-1"}, "tick_interval_s"),
        (("transcribe", "no-such-file.wav"), {}, "no-such-file.wav"),
        (("transcribe", "--device", "blah", "README.md"), {}, "only cpu and cuda"),
        (("evaluate", "scenes", "--sounds", "/no/such/folder"), {}, "does not exist"),
        (("db", "check"), {"EUREKA_ENV_FILE": "/no/such.env"}, "/no/such.env is not there"),
    ],
)
def test_failures_are_one_line(arguments: tuple[str, ...], environment: dict[str, str], said: str) -> None:
    done = eureka(*arguments, **environment)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_progress_on_recordings_leaves_standard_output_to_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("workers.recordings.obtain", lambda folder, say: say("fetching"))
    monkeypatch.setattr(sys, "argv", ["recordings", "folder"])
    assert recordings.main() == 0
    assert capsys.readouterr() == ("", "fetching\n")


def test_the_version_is_told() -> None:
    assert eureka("--version").stdout == "eureka-stream %s\n" % importlib.metadata.version("eureka-stream")


@pytest.mark.parametrize("command", ["send", "tail"])
def test_a_client_without_a_broker_says_so_soon(command: str, tmp_path: Path) -> None:
    recordings.write_wav(tmp_path / "a.wav", np.zeros(1600, np.int16))
    arguments = [str(tmp_path / "a.wav")] if command == "send" else []
    started_s = time.monotonic()
    done = eureka(command, *arguments, EUREKA_BROKERS="127.0.0.1:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "eureka: no broker at 127.0.0.1:1: KafkaTimeoutError\n"
    assert time.monotonic() - started_s < 20  # kafka-python alone waits for 30 s


def test_as_many_roles_as_channels(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "mono.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(1600))
    done = eureka("send", "--roles", "agent,customer", "--fast", str(tmp_path / "mono.wav"))
    assert done.returncode == 2
    assert "2 role(s) for the 1 channel(s) of mono.wav" in " ".join(done.stderr.split())


def test_a_result_reads_as_a_line_and_as_json() -> None:
    event = {
        "stream_id": "s",
        "channel": 1,
        "start_ms": 1500,
        "end_ms": 2000,
        "event_type": "pace",
        "label": "fast",
        "confidence": 0.9,
        "value": 211.4,
        "unit": "words/min",
    }
    assert as_line(event).split() == ["s/1", "1.5-2.0", "s", "pace:", "fast", "211", "words/min", "(90", "%)"]
    tailed = Tailed("event", "e-1", "audio.events", 3, 17, event)
    assert as_line(tailed.record()).split() == ["event", *as_line(event).split()]
    place = {"id": "e-1", "topic": "audio.events", "partition": 3, "offset": 17}
    assert as_record(tailed.record()) == {"type": "event", **event, "kafka": place}
    assert as_record(event) == event
    with pytest.raises(TypeError):
        as_record(3)
