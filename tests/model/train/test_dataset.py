"""Windows of a manifest: what is asked of them, their views, their cache."""

import random
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.train import batches, dataset, librispeech, manifest
from model.train.audio import RATE_HZ, rms
from model.train.augment import augment
from model.train.dataset import CachedWindows, LiveWindows, load, may_be_augmented
from model.train.distributed import Processes
from model.train.manifest import ManifestError, Sample
from tests.model import tiny

ALONE = Processes(torch.device("cpu"))


def write(path: Path, length_s: float, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).normal(0, 3000, round(length_s * RATE_HZ)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes(noise.tobytes())
    return path


def sample(audio: Path, task: str = "asr", **fields: Any) -> Sample:
    known = {"prompt": "", "answer": "hold", "language": "en", "licence": "CC0-1.0", "source": "test"}
    return Sample.model_validate({"audio": audio, "task": task} | known | fields)


def test_views_are_encoded_once_and_change_from_epoch_to_epoch(tmp_path: Path) -> None:
    encoder = tiny.model().audio_encoder
    first, second = write(tmp_path / "1.wav", 1.0), write(tmp_path / "2.wav", 0.5)
    windows = manifest.by_window(
        [sample(first), sample(second), sample(second, "caption", answer="A woman speaks.")]
    )

    def cached() -> tuple[CachedWindows, int]:
        made = CachedWindows(windows, tmp_path / "features", views=3, live=2)
        return made, made.fill(encoder, 1, ALONE)

    made, missing = cached()
    assert missing == 4  # three views of the one, but whoever describes a voice means this recording
    again, missing = cached()
    assert missing == 0
    items = made.items(made.parts())
    assert [(item.text, len(item.asked), item.frames) for item in items] == [("hold", 1, 52), ("hold", 2, 28)]
    epochs = [made.examples([0, 1], epoch, augmented=True) for epoch in range(3)]
    assert len({one[0].states.sum().item() for one in epochs}) == 3
    assert len({one[1].states.sum().item() for one in epochs}) == 1
    plain = made.examples([0], 2, augmented=False)[0]
    assert torch.equal(plain.states, again.examples([0], 0, augmented=True)[0].states)
    live = LiveWindows(windows, encoder, 2, seed=1)
    assert [item.frames for item in live.items(())] == [52, 28]
    assert torch.equal(live.examples([0], 2, augmented=False)[0].states, plain.states)
    moved, same = (live.examples([0], 2, augmented=True)[0] for _ in range(2))
    assert torch.equal(moved.states, same.states)
    assert moved.item.frames == len(moved.states)
    # Another file under the same name is another window.
    write(first, 1.2, seed=1)
    dataset._identity.cache_clear()
    assert cached()[1] == 3


def test_what_a_manifest_asks_becomes_the_model_s_own_prompts(tmp_path: Path) -> None:
    audio = tmp_path / "1.wav"
    choices = ("a bill", "an order")
    asked = [
        sample(audio),
        sample(audio, "caption", answer="A man speaks."),
        sample(audio, "semantic", prompt="What about?", answer="an order", choices=choices),
        sample(audio, "semantic", prompt="Say more.", answer="It is late."),
        sample(audio, prompt="Write it down.", answer=""),
    ]
    item = dataset.item_of([one.model_copy(update={"audio": write(audio, 0.5)}) for one in asked], 28)
    jobs = [batches.job(one, 28) for one in batches.known_of(item)]
    assert [job.answer for job in jobs] == [" hold", "A man speaks.", "B", "It is late.", ""]
    assert all(job.prompt.count("<|audio_pad|>") == 7 for job in jobs)
    assert jobs[2].prompt.count("What about?\nA. a bill\nB. an order<|im_end|>") == 1
    assert "ASR" in jobs[4].prompt
    assert jobs[4].prompt.count("<|audio_end|>Write it down.") == 1
    drawn = [batches.draw_one(item, {"semantic": 1.0}, random.Random(seed)) for seed in range(20)]
    assert {one.prompt for one in drawn if one} == {"What about?", "Say more."}


def test_audio_that_cannot_be_a_window_is_an_error_that_names_it(tmp_path: Path) -> None:
    long, empty, broken = write(tmp_path / "l.wav", 31), write(tmp_path / "e.wav", 0), tmp_path / "b.wav"
    broken.write_bytes(b"RIFF")
    for path, what in ((long, "too long"), (empty, "no audio"), (broken, "no audio")):
        with pytest.raises(ManifestError, match=what) as raised:
            load(sample(path))
        assert str(path) in str(raised.value)
    with pytest.raises(ManifestError, match=r"31\.0 s"):
        dataset.seconds([sample(long)])
    part = load(sample(long, start=30.0, end=30.5))
    assert len(part) == RATE_HZ // 2


def test_augmentation_moves_sound_and_leaves_silence() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, RATE_HZ).astype(np.float32)
    versions = [augment(noise, np.random.default_rng(seed)) for seed in range(20)]
    assert len({len(one) for one in versions}) > 5
    assert all(0.85 * RATE_HZ < len(one) < 1.12 * RATE_HZ for one in versions)
    assert all(np.abs(one).max() <= 1.01 and -40 < 20 * np.log10(rms(one)) < -8 for one in versions)
    silence = np.zeros(100, np.float32)
    assert augment(silence, rng) is silence
    assert not may_be_augmented([sample(Path("a"), "paralinguistic", prompt="Who?")])


def test_librispeech_by_way_of_torchaudio(tmp_path: Path) -> None:
    folder = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121"
    folder.mkdir(parents=True)
    for number in (0, 1):
        write(folder / f"84-121-000{number}.flac", 0.5)
    (folder / "84-121.trans.txt").write_text("84-121-0000 GO DO\n84-121-0001 IT'S 2 HERE\n", encoding="utf-8")
    out = tmp_path / "dev.jsonl"
    assert manifest.write(out, librispeech.samples(tmp_path, "dev-clean")) == 2
    found = manifest.read(out)
    assert [one.answer for one in found] == ["go do", "it's two here"]
    assert (found[0].licence, found[0].audio.name) == ("CC-BY-4.0", "84-121-0000.flac")
    with pytest.raises(FileNotFoundError, match="no LibriSpeech/test-clean"):
        list(librispeech.samples(tmp_path, "test-clean"))
