"""Synthesis commands, the imported encoder's file format, plans and the cache of encoder states."""

import json
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from model.encoder import WhisperEncoder
from model.train import cache, nano, sources, synthesise
from model.train.audio import RATE_HZ
from model.train.dataset import ShardWindows
from model.train.import_whisper import WhisperFileError, encoder_state, parse_variables
from model.train.sounds import Recordings
from model.train.voices import ESPEAK, HELD_OUT, TRAINING, draw_rate, draw_voice
from tests.model import tiny

ITEM = {"id": "x-1", "text": "one two", "program": "flite", "voice": "slt", "rate": 1.25}
SPOKEN = {**ITEM, "sex": "female", "pace": "fast", "source": "call", "text_source": "templates"}


def test_commands_carry_voice_rate_and_text() -> None:
    assert "duration_stretch=0.800" in synthesise.flite_command(ITEM, Path("x.wav"))
    command = synthesise.espeak_command({**ITEM, "voice": "en-us+f1"}, Path("x.wav"))
    assert command[command.index("-s") + 1] == "206"
    assert command[-1] == "one two"
    marked = synthesise.pico_command({**ITEM, "voice": "en-GB"}, Path("x.wav"))[-1]
    assert marked.startswith('<speed level="125"><pitch level="')
    assert ">one two<" in marked
    command = synthesise.rhvoice_command({**ITEM, "voice": "alan"}, Path("x.wav"))
    assert command[command.index("-r") + 1] == "125"


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is only needed for training")
def test_flite_speaks_a_plan_once(tmp_path: Path) -> None:
    plan = tmp_path / "plan.jsonl"
    plan.write_text(json.dumps(SPOKEN) + "\n")
    assert synthesise.speak(plan, tmp_path / "out") == 1
    assert synthesise.speak(plan, tmp_path / "out") == 0
    manifest = tmp_path / "out" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-9])  # killed while it wrote; the clip may be torn as well
    (tmp_path / "out" / "x-1.wav").write_bytes(b"RIFF")
    assert synthesise.speak(plan, tmp_path / "out") == 1
    (entry,) = sources.synthetic(tmp_path / "out")
    utterance = sources.load(entry)
    assert utterance.text == "one two"
    assert 0.3 < len(utterance.wave) / RATE_HZ < 2.0


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = tmp_path / "plan.jsonl"
    plan.write_text(json.dumps(ITEM) + "\n")
    with pytest.raises(synthesise.SynthesisError, match="flite is not installed"):
        synthesise.speak(plan, tmp_path / "out")


def test_held_out_voices_never_train() -> None:
    held = {voice.name for voice in HELD_OUT}
    assert not held & {voice.name for voices in TRAINING.values() for voice in voices}
    rng = random.Random(1)
    for _ in range(300):
        blend = draw_voice("kokoro", rng)
        assert not held & set(blend.name.split("+"))
        assert blend.name.split("+")[0][1] == ("f" if blend.sex == "female" else "m")
    assert draw_voice("espeak", rng) in ESPEAK
    assert {draw_rate(rng)[0] for _ in range(50)} == {"slow", "normal", "fast"}


def ct2_file(variables: dict[str, torch.Tensor]) -> bytes:
    def name(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    data = struct.pack("<I", 6) + name("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for key, value in variables.items():
        raw = value.half().numpy().tobytes()
        data += (
            name(key)
            + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
            + struct.pack("<BI", 4, len(raw))
            + raw
        )
    return data + struct.pack("<I", 0)


def test_whisper_variables_become_encoder_keys() -> None:
    encoder = WhisperEncoder(tiny.CONFIG.audio)
    want = {key: torch.randn_like(value).half().float() for key, value in encoder.state_dict().items()}
    names = {"embed_positions.weight": "position_encodings/encodings"}
    made: dict[str, torch.Tensor] = {}
    for key, value in want.items():
        if "_proj." in key and "out_proj" not in key:
            continue
        new = names.get(key, key.replace("layers.", "layer_").replace(".", "/"))
        new = new.replace("self_attn/out_proj", "self_attention/linear_1").replace("fc1", "ffn/linear_0")
        new = new.replace("fc2", "ffn/linear_1").replace("self_attn_layer_norm", "self_attention/layer_norm")
        new = new.replace("final_layer_norm", "ffn/layer_norm")
        if "layer_norm/" in new:
            new = new.replace("/weight", "/gamma").replace("/bias", "/beta")
        made[f"encoder/{new}"] = value
    for layer in range(2):
        part = f"layers.{layer}.self_attn"
        weights = [want[f"{part}.{p}_proj.weight"] for p in "qkv"]
        width = weights[0].shape[0]
        biases = [want[f"{part}.q_proj.bias"], torch.zeros(width), want[f"{part}.v_proj.bias"]]
        made[f"encoder/layer_{layer}/self_attention/linear_0/weight"] = torch.cat(weights)
        made[f"encoder/layer_{layer}/self_attention/linear_0/bias"] = torch.cat(biases)
    state = encoder_state(parse_variables(ct2_file(made)))
    assert set(state) == set(want)
    for key, value in state.items():
        torch.testing.assert_close(value.float(), want[key])


def test_a_cut_whisper_file_is_refused() -> None:
    data = ct2_file({"encoder/a": torch.ones(4, 4)})
    with pytest.raises(WhisperFileError):
        parse_variables(data[:40])


def test_the_cache_resumes_and_reads_back(tmp_path: Path) -> None:
    encoder = WhisperEncoder(tiny.CONFIG.audio).eval()
    nothing = Recordings((), ())
    made = list(cache.sound_windows(range(3), set(), nothing, seed=1))
    assert cache.write_shards(tmp_path, "sound", made, encoder, 2) == 3
    done = cache.done_identities(tmp_path)
    assert list(cache.sound_windows(range(3), done, nothing, seed=1)) == []
    shards = ShardWindows(tmp_path, 2)
    assert [item.identity for item in shards.items(shards.parts())] == [identity for identity, _, _ in made]
    for example, (_, window, _) in zip(shards.examples(range(3), 0, False), made, strict=True):
        item, states = example.item, example.states
        assert states.shape == (item.frames, 32)
        assert item.frames == 4 * -(-len(window.wave) // 1280)
        np.testing.assert_array_equal(states.numpy(), cache.encode(encoder, window.wave, 2).numpy())


def test_held_out_voices_have_a_manifest_per_kind_of_text(tmp_path: Path) -> None:
    spoken = {"audio": "a.wav", "text": "one two", "program": "espeak"}
    for program in ("espeak", "festival"):
        folder = tmp_path / "speech" / f"test-{program}"
        folder.mkdir(parents=True)
        lines = [{**spoken, "program": program, "source": kind} for kind in ("call", "heldout")]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folders = nano.Folders(work=tmp_path, whisper_parts=(), asterisk=tmp_path, sentences=tmp_path / "none")
    call, heldout = nano.write_test_set(folders)
    assert (call.name, heldout.name) == ("heldout-voices-call.jsonl", "heldout-voices-heldout.jsonl")
    lines = [json.loads(line) for line in call.read_text().splitlines()]
    assert [line["group"] for line in lines] == ["espeak", "festival"]
    assert lines[0]["audio"] == "speech/test-espeak/a.wav"  # from the manifest on
