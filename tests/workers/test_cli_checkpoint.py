"""`eureka checkpoint …` on real, tiny checkpoints: from the comparison to the promotion, and every way it says no."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from model.checkpoint import save
from model.evaluate import nonspeech, scenes
from tests.model import tiny
from tests.streams.sound import voice
from workers import checkpoints
from workers.cli import app
from workers.recordings import write_wav


def eureka(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["checkpoint", *map(str, arguments)])


def test_from_the_comparison_to_the_promotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = (tmp_path / ("%s.safetensors" % name) for name in "abc")
    digests = [save(tiny.model(seed), tiny.tokenizer(), path) for seed, path in enumerate((a, b, c))]
    folder = tmp_path / "promoted"
    monkeypatch.setenv("EUREKA_CHECKPOINT", str(a))
    monkeypatch.setenv("EUREKA_CHECKPOINTS_DIR", str(folder))
    monkeypatch.setenv("EUREKA_DEVICE", "cpu")

    # no record, no promotion
    refused = eureka("promote", b)
    assert refused.exit_code == 1
    assert "no gate record at %s.gate.json" % b in str(refused.exception)

    # the comparison, on material so small that nobody may pass
    monkeypatch.setattr(nonspeech, "MINUTES", {"silence": 0.02})
    one = scenes.Scene(np.zeros(16_000, np.int16), "silence")
    monkeypatch.setattr(scenes, "build", lambda *_: [one])
    monkeypatch.setattr("workers.evaluate.asterisk_folder", lambda *_: tmp_path)
    write_wav(tmp_path / "1.wav", voice(1.0, 1))
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "1.wav", "text": "please hold the line"}))
    compared = eureka("compare", a, b, "--manifest", manifest, "--wer-margin", 0.01, "--json")
    assert compared.exit_code == 1
    assert "1 items, and 30 are the fewest that say something" in compared.stderr
    record: dict[str, Any] = json.loads(compared.stdout)
    assert record == json.loads((tmp_path / "b.safetensors.gate.json").read_text())
    assert [record[side]["sha256"] for side in "ab"] == digests[:2]
    assert record["margins"] == {"wer": 0.01, "scenes": 0.05}
    assert "please" not in compared.stdout
    refused = eureka("promote", b)
    assert "not promoted: the gate was not passed: word errors" in str(refused.exception)

    # passed
    (tmp_path / "b.safetensors.gate.json").write_text(json.dumps(record | {"passed": True, "reasons": []}))
    said = json.loads(eureka("promote", b, "--json").stdout)
    assert (said["sha256"], said["model"], said["why"]) == (digests[1], "tiny", "gate")
    assert said["version"] == "1+%s" % digests[1][:8]
    assert (folder / said["file"]).read_bytes() == b.read_bytes()
    assert json.loads(eureka("promote", b, "--json").stdout)["why"] == "again"

    # a record against what does not run any more, force, and the way back
    (tmp_path / "c.safetensors.gate.json").write_text(
        json.dumps(record | {"passed": True, "b": record["b"] | {"sha256": digests[2]}})
    )
    assert "and workers run %s" % digests[1][:16] in str(eureka("promote", c).exception)
    assert eureka("promote", c, "--force", " ").exit_code == 2
    assert eureka("promote", c, "--force", "the gate's recordings are not to be had").exit_code == 0
    assert json.loads(eureka("promote", "--previous", "--json").stdout)["sha256"] == digests[1]
    assert eureka("promote", c, "--previous").exit_code == eureka("promote").exit_code == 2
    reasons = [p.why for p in checkpoints.history(folder)]
    assert reasons == ["gate", "again", "forced: the gate's recordings are not to be had", "previous"]


def test_verify_says_what_is_wrong_and_its_status_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no weights")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "1.wav", "text": "please hold the line"}))
    said = eureka("verify", damaged, "--manifest", manifest)
    assert said.exit_code == 1
    assert [line.split()[0] for line in said.stdout.splitlines()] == ["ok", "ok", "WRONG"]
    report = json.loads(eureka("verify", damaged, "--manifest", manifest, "--json").stdout)
    assert (report["ok"], report["size_bytes"], report["model"]) == (False, 10, "")
