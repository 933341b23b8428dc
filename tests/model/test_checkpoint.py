"""Our layout and the released layout, read back; what must fail, fails with a message that helps."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import transformers.dynamic_module_utils
from safetensors.torch import save_file

from model import checkpoint
from model.checkpoint import CheckpointError
from model.eureka import Eureka
from tests.model import tiny

MODELING = """
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel


class EurekaConfig(PretrainedConfig):
    model_type = "eureka_test"


class AudioNanoExpert(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.gate = nn.Linear(width, out, bias=False)

    def forward(self, x):
        return self.gate(x)


class EurekaForCausalLM(PreTrainedModel):
    config_class = EurekaConfig
    _keys_to_ignore_on_load_unexpected = [r"audio_encoder.*", r"backbone.*"]

    def __init__(self, config):
        super().__init__(config)
        self.audio_moe_adaptor = AudioNanoExpert(config.width, config.out)
        self.post_init()
"""


def write_released(folder: Path, model: Eureka, adapter: dict[str, torch.Tensor] | None = None) -> None:
    """A folder of the released layout, in two shards; `adapter` replaces the adapter's tensors."""
    theirs = {"audio_encoder.": "audio_encoder.speech_encoder.", "decoder.": "backbone."}
    tensors = {}
    for key, value in checkpoint.stored(model).items():
        for ours, prefix in theirs.items():
            if key.startswith(ours):
                tensors[prefix + key.removeprefix(ours)] = value.clone()
        if key.startswith("audio_adapter.") and adapter is None:
            tensors["audio_moe_adaptor." + key.removeprefix("audio_adapter.")] = value.clone()
    tensors |= {f"audio_moe_adaptor.{key}": value for key, value in (adapter or {}).items()}
    tensors["backbone.lm_head.weight"] = tensors["backbone.model.embed_tokens.weight"].clone()
    keys = sorted(tensors)
    names = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(keys)}
    for name in set(names.values()):
        shard = {key: tensors[key] for key in keys if names[key] == name}
        save_file(shard, folder / name, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    config = {
        "model_type": "eureka_test",
        "architectures": ["EurekaForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling.EurekaConfig",
            "AutoModelForCausalLM": "modeling.EurekaForCausalLM",
        },
        "audio_config": {"encoder_attention_heads": model.config.audio.heads},
        "backbone_config": {"rope_theta": 1e6, "rms_norm_eps": 1e-6},
        "num_experts_per_tok": 2,
        "width": 4 * model.config.audio.d_model,
        "out": model.config.decoder.hidden,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tiny.tokenizer().to_json())
    (folder / "modeling.py").write_text(MODELING)


def test_our_layout_reads_back(tmp_path: Path) -> None:
    model = tiny.model()
    digest = checkpoint.save(model, tiny.tokenizer(), tmp_path / "a.safetensors", dtype=torch.float32)
    loaded = checkpoint.load(tmp_path / "a.safetensors", expected_sha256=digest)
    assert loaded.config == model.config
    assert loaded.sha256 == digest
    assert loaded.tokenizer.encode("hold the line") == tiny.tokenizer().encode("hold the line")
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key]), key
    assert loaded.model.decoder.lm_head.weight is loaded.model.decoder.model.embed_tokens.weight
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_half_precision_keeps_the_router_in_fp32(tmp_path: Path) -> None:
    checkpoint.save(tiny.model(), tiny.tokenizer(), tmp_path / "a.safetensors")
    model = checkpoint.load(tmp_path / "a.safetensors", dtype=torch.bfloat16).model
    kinds = {key: value.dtype for key, value in model.state_dict().items()}
    assert kinds.pop("audio_adapter.router.weight") == torch.float32
    assert set(kinds.values()) == {torch.bfloat16}


def test_another_digest_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tiny.model(), tiny.tokenizer(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="expected 00"):
        checkpoint.load(tmp_path / "a.safetensors", expected_sha256="00")


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is no checkpoint at all")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path / "text.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of this project"):
        checkpoint.load(tmp_path / "other.safetensors")


def test_missing_and_surplus_tensors_are_named() -> None:
    model = tiny.model()
    tensors = checkpoint.stored(model)
    tensors["surplus"] = tensors.pop("ctc_head.bias")
    with pytest.raises(CheckpointError, match=r"(?s)not found \(1\): ctc_head.bias.*\(1\): surplus"):
        checkpoint.build(model.config, tensors)


def test_released_layout(tmp_path: Path) -> None:
    model = tiny.model(ctc=False)
    write_released(tmp_path, model)
    loaded = checkpoint.load(tmp_path)
    assert loaded.config.audio == model.config.audio
    assert loaded.config.adapter == model.config.adapter
    assert loaded.config.decoder == model.config.decoder
    assert loaded.config.pad_to_30s
    assert not loaded.config.ctc
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[key]), key


def test_released_adapter_of_other_keys(tmp_path: Path) -> None:
    model = tiny.model(ctc=False)
    width, out = 4 * model.config.audio.d_model, model.config.decoder.hidden
    gate = torch.randn(out, width)
    write_released(tmp_path, model, {"gate.weight": gate})
    with pytest.raises(CheckpointError) as failure:
        checkpoint.load(tmp_path)
    for part in ("audio_moe_adaptor.router.weight", "audio_moe_adaptor.gate.weight", "--trust-remote-code"):
        assert part in str(failure.value)


def test_released_code_runs_only_when_trusted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(tmp_path_factory.mktemp("modules"))  # where transformers copies such code to
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", cache)
    model = tiny.model(ctc=False)
    width, out = 4 * model.config.audio.d_model, model.config.decoder.hidden
    gate = torch.randn(out, width)
    write_released(tmp_path, model, {"gate.weight": gate})
    loaded = checkpoint.load(tmp_path, trust_remote_code=True)
    mel = torch.randn(80, 64)
    encoded = loaded.model.encode([mel])
    adapted = loaded.model.adapt(encoded)
    expected = encoded.states_BLD.reshape(1, 8, width) @ gate.T
    torch.testing.assert_close(adapted.embeds_BNO, expected, atol=1e-5, rtol=1e-4)


def test_index_must_not_leave_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../x.safetensors"}})
    )
    with pytest.raises(CheckpointError, match="lacks"):
        checkpoint.load(tmp_path)


def test_config_reads_back() -> None:
    config = dataclasses.replace(tiny.CONFIG, name="ä")
    assert type(config).from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="configuration"):
        type(config).from_json('{"name": "x"}')
