"""The gate: what passes and what does not, on figures whose verdict is known, and on a tiny checkpoint that is real."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from model import gate, verify
from model.checkpoint import load, save, sha256_of
from model.engine import Engine
from model.evaluate import asr, nonspeech
from model.evaluate.gate import measure
from model.gate import GateError, Heard, Margins, Measured
from tests.model import tiny
from tests.streams.sound import voice
from workers.recordings import write_wav

MARGINS = Margins(wer=0.02, scenes=0.05)
WORDS = (10,) * 200


def measured(
    sha256: str,
    wrong: int = 150,
    *,
    scenes: int = 98,
    invented: int = 0,
    words: tuple[int, ...] = WORDS,
    shift: int = 0,
) -> Measured:
    """`wrong` errors, one per utterance from `shift` on; `scenes` of 100 named right."""
    errors = np.roll([1] * wrong + [0] * (len(words) - wrong), shift)
    named = tuple(n < scenes for n in range(100))
    heard = Heard("m.jsonl", "d" * 64, tuple(int(e) for e in errors), words)
    return Measured("nano", "1", sha256, (heard,), invented, 21.0, named, named)


def test_the_same_figures_pass_and_their_interval_is_nothing() -> None:
    verdict = gate.judge(measured("a"), measured("b"), MARGINS)
    assert (verdict.passed, verdict.reasons) == (True, ())
    assert [(f.delta, f.low, f.high) for f in verdict.figures if f.low is not None] == [(0.0, 0.0, 0.0)] * 3
    assert verdict.figures[0].a == pytest.approx(150 / 2000)


@pytest.mark.parametrize(
    ("b", "reason"),
    [
        (measured("b", 195), "word errors, m.jsonl: 0.0750 to 0.0975"),  # worse beyond the margin
        (measured("b", 180), "word errors, m.jsonl: 0.0750 to 0.0900"),  # within it, but who knows
        (measured("b", invented=1), "words on non-speech: 1 in 21 minutes"),
        (measured("b", scenes=90), "scene question: 0.9800 to 0.9000"),
        (measured("b", scenes=95), "scene question: 0.9800 to 0.9500"),
    ],
)
def test_what_is_worse_or_may_be_does_not_pass(b: Measured, reason: str) -> None:
    if "0.0900" in reason:  # the same rate on other utterances: the pairs tell less, the interval is wide
        b = dataclasses.replace(b, heard=measured("b", 180, shift=50).heard)
    verdict = gate.judge(measured("a"), b, MARGINS)
    assert not verdict.passed
    assert any(said.startswith(reason) for said in verdict.reasons), verdict.reasons
    assert gate.judge(measured("a"), b, MARGINS) == verdict


def test_a_better_one_passes_however_much_it_differs() -> None:
    assert gate.judge(measured("a", 150), measured("b", 20, shift=90, scenes=100), MARGINS).passed


def test_the_interval_is_that_of_theory() -> None:
    """One error more in every fourth utterance: the standard error of a mean of 0.25 over 200 is 0.0306."""
    figure = gate.judge(measured("a", 0), measured("b", 50), MARGINS).figures[0]
    assert figure.low is not None
    assert figure.high is not None
    assert figure.delta == pytest.approx(0.025)
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * 0.0306 / 10, rel=0.1)


def test_too_little_and_different_material_give_no_pass() -> None:
    few = (10,) * 20
    verdict = gate.judge(measured("a", 5, words=few), measured("b", 5, words=few), MARGINS)
    assert verdict.reasons == ("word errors, m.jsonl: 20 items, and 30 are the fewest that say something",)
    with pytest.raises(GateError, match="not measured on the same utterances"):
        gate.judge(measured("a"), measured("b", words=(9,) * 200), MARGINS)
    none = dataclasses.replace(measured("a"), heard=())
    with pytest.raises(GateError, match="at least one manifest"):
        gate.judge(none, none, MARGINS)


def test_a_record_lets_its_own_checkpoint_pass_and_no_other(tmp_path: Path) -> None:
    def written(b: Measured, margins: Margins = MARGINS) -> dict[str, object]:
        a = measured("a")
        made = gate.record(a, b, margins, gate.judge(a, b, margins), made_at="now")
        path = tmp_path / "b.gate.json"
        path.write_text(json.dumps(made))
        return gate.read_record(path)

    good = written(measured("b"))
    assert gate.objection(good, "b", "a", MARGINS) == gate.objection(good, "b", None, MARGINS) == ""
    assert "of another checkpoint" in gate.objection(good, "c", "a", MARGINS)
    assert "it was compared with a" in gate.objection(good, "b", "other", MARGINS)
    assert "not passed: words on non-speech" in gate.objection(
        written(measured("b", invented=2)), "b", "a", MARGINS
    )
    wide = written(measured("b", 195), Margins(1.0, 1.0))
    assert wide["passed"]
    assert "wider than the settings allow" in gate.objection(wide, "b", "a", MARGINS)
    (tmp_path / "other.json").write_text('{"format": "eureka-gate-1", "passed": "yes"}')
    for path in (tmp_path / "other.json", tmp_path / "none.json"):
        with pytest.raises(GateError, match="no gate record"):
            gate.read_record(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gate") / "tiny.safetensors"
    save(tiny.model(), tiny.tokenizer(), path)
    return path


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    return Engine.open(checkpoint, device="cpu", compile=False)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings with words and one whose reference holds none."""
    folder = tmp_path_factory.mktemp("manifest")
    texts = ["please hold the line", "(beep)", "an agent"]
    for n in range(3):
        write_wav(folder / f"{n}.wav", voice(1.0, n))
    lines = [json.dumps({"audio": f"{n}.wav", "text": text}) for n, text in enumerate(texts)]
    (folder / "m.jsonl").write_text("\n".join(lines))
    return folder / "m.jsonl"


def test_measuring_gives_pairs_that_add_up_to_the_usual_figure(
    engine: Engine, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nonspeech, "MINUTES", {"silence": 0.02})
    monkeypatch.setattr("model.evaluate.scenes.build", lambda *_: [])
    found = measure(engine, "digest", [manifest], tmp_path, None, 0, lambda _: None)
    report = asr.evaluate(asr.read_manifest(manifest), asr.engine_transcriber(engine)).all
    (heard,) = found.heard
    assert (heard.words, heard.sha256) == ((4, 2), sha256_of(manifest))
    assert sum(heard.errors) / sum(heard.words) == pytest.approx(report.wer)
    assert found.nonspeech_minutes > 0.02
    assert (found.sha256, found.version) == ("digest", engine.version)


def names(report: verify.Report) -> dict[str, bool]:
    return {check.name: check.ok for check in report.checks}


def test_a_checkpoint_is_looked_at_part_by_part(
    checkpoint: Path, engine: Engine, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "SILENCES_S", (1,))
    prompts = asr.read_manifest(manifest)[:1]
    report = verify.verify(checkpoint, verify.Bound(prompts, max_wer=0.0), "cpu")
    seen = names(report)
    seen.pop("silence")  # a model of random weights may say anything
    good = ["safetensors", "sha256", "finite", "configuration", "compatible", "tokenizer"]
    assert seen == dict.fromkeys(good, True) | {"prompts": False}
    assert not report.ok
    assert report.sha256 == sha256_of(checkpoint)
    assert report.version == f"1+{report.sha256[:8]}"
    assert report.size_bytes == checkpoint.stat().st_size
    assert verify._prompts(engine, verify.Bound(prompts, max_wer=100)).ok
    assert not verify._prompts(engine, verify.Bound((), max_wer=1)).ok


def test_what_is_wrong_with_a_checkpoint_has_a_name(checkpoint: Path, tmp_path: Path) -> None:
    bound = verify.Bound((), 1.0)
    loaded = load(checkpoint)
    with_nan = tmp_path / "nan.safetensors"
    next(iter(loaded.model.parameters())).data[0] = float("nan")
    save(loaded.model, loaded.tokenizer, with_nan)
    assert names(verify.verify(with_nan, bound, "cpu"))["finite"] is False
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(checkpoint.read_bytes()[:-1000])
    folder = tmp_path / "released"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"")
    for path, said in (
        (cut, "not fully covered"),
        (folder, "pickles run code"),
        (tmp_path / "none", "no checkpoint at"),
    ):
        report = verify.verify(path, bound, "cpu")
        assert not report.ok
        assert said in report.checks[-1].detail
        assert set(names(report)) <= {"safetensors", "sha256", "readable"}
