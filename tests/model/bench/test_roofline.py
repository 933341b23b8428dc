"""Costs against torch's own counts, and what a report holds; no time is asserted."""

import dataclasses
import json
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.bench import roofline
from model.cache import KeyValueCache
from model.config import CONFIGS, EurekaConfig
from model.eureka import Eureka
from tests.model import tiny

UNTIED = dataclasses.replace(
    tiny.CONFIG, decoder=dataclasses.replace(tiny.CONFIG.decoder, tie_embeddings=False), ctc_blocks=2
)
PARTS = {"audio_encoder": "encoder", "audio_adapter": "adapter", "ctc_head": "ctc", "ctc_context": "ctc"}


@pytest.mark.parametrize("config", [*CONFIGS.values(), tiny.CONFIG, UNTIED], ids=lambda c: c.name)
def test_parameters_are_those_of_the_model(config: EurekaConfig) -> None:
    with torch.device("meta"):
        model = Eureka(config)
    counted = dict.fromkeys(("encoder", "adapter", "decoder", "ctc"), 0)
    for name, parameter in model.named_parameters():
        counted[PARTS.get(name.split(".")[0], "decoder")] += parameter.numel()
    assert roofline.parameters(config) == counted


def counted(run: object) -> int:
    assert callable(run)
    # Plain products, which the counter knows; it does not know the CPU's fused attention.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("frames", [8, 200])
def test_encoder_flops_are_those_of_torch(frames: int) -> None:
    audio = tiny.CONFIG.audio
    mel_BMT = torch.zeros(1, audio.n_mels, frames)
    assert roofline.encoder_work(audio, frames, 4).flops == counted(
        lambda: tiny.model().audio_encoder(mel_BMT)
    )


@pytest.mark.parametrize("tokens", [1, 7])
def test_adapter_flops_are_those_of_torch(tokens: int) -> None:
    adapter = tiny.model().audio_adapter
    adapter.path = "loop"  # products that the counter knows
    states_BLD = torch.randn(1, tokens * tiny.CONFIG.adapter.frames_per_token, tiny.CONFIG.audio.d_model)
    work = roofline.adapter_work(tiny.CONFIG.adapter, tiny.CONFIG.audio.d_model, tokens, 4)
    assert work.flops == counted(lambda: adapter(states_BLD))


def test_prefill_flops_are_those_of_torch() -> None:
    decoder = tiny.decoder()
    embeds_BLD = torch.randn(1, 12, tiny.DECODER.hidden)
    work = roofline.prefill_work(tiny.DECODER, 12, 4)
    assert work.flops == counted(lambda: decoder.lm_head(decoder.hidden(embeds_BLD)[:, -1]))


@pytest.mark.parametrize(("batch", "context"), [(1, 9), (5, 32)])
def test_decode_flops_and_bytes_are_those_of_the_step(batch: int, context: int) -> None:
    decoder = tiny.decoder()
    cache = KeyValueCache(tiny.DECODER, batch, context)
    ids_B1 = torch.zeros(batch, 1, dtype=torch.long)
    work = roofline.decode_work(tiny.DECODER, batch, context, 4)
    assert work.flops == counted(
        lambda: decoder(decoder.embed_tokens(ids_B1), ids_B1 + context - 1, cache, None, context)
    )
    assert work.weight_bytes == sum(parameter.nbytes for parameter in decoder.parameters())
    assert work.kv_read_bytes == cache.keys.nbytes + cache.values.nbytes
    assert work.kv_write_bytes * context == work.kv_read_bytes


def test_the_released_geometry_gives_the_figures_of_the_documentation() -> None:
    config = CONFIGS["1.7b"]
    encoder = roofline.encoder_work(config.audio, 3000, 2)
    assert encoder.flops == pytest.approx(2.27e12, rel=0.005)
    for batch, tokens_s in ((1, 958), (64, 30_200)):
        work = roofline.decode_work(config.decoder, batch, roofline.CONTEXT, 2)
        assert batch / work.least_s(3.35e12) == pytest.approx(tokens_s, rel=0.005)
    assert roofline.decode_work(config.decoder, 1, 500, 2).weight_bytes == pytest.approx(3.44e9, rel=0.005)


def test_one_token_reads_the_experts_it_visits_and_many_read_all() -> None:
    config = tiny.CONFIG
    one, some, many = (
        roofline.adapter_work(config.adapter, config.audio.d_model, tokens, 4).weight_bytes
        for tokens in (1, 2, 100)
    )
    assert one < some == many == 4 * roofline.parameters(config)["adapter"]


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "measure_ceilings", lambda device: roofline.Ceilings(1e9, 1e10, 2e10))


@pytest.mark.usefixtures("light")
def test_steps_are_measured_and_set_against_the_roof() -> None:
    threads = torch.get_num_threads()
    found = roofline.run(tiny.CONFIG, "cpu", context=40, batches=(1, 3, 4), measured=(1, 3))
    assert torch.get_num_threads() == threads
    assert json.loads(json.dumps(dataclasses.asdict(found)))["config"] == "tiny"
    for row in found.decode[:2]:
        assert row.measured is not None
        assert row.step_ms is not None
        assert row.note is None
        assert row.measured == pytest.approx(row.batch / row.step_ms * 1e3)
        assert row.share_of_roof == pytest.approx(row.measured / row.roof_tokens_s)
        least_s = max((row.weight_bytes + row.kv_read_bytes + row.kv_write_bytes) / 1e9, row.flops / 1e10)
        assert row.roof_tokens_s == pytest.approx(row.batch / least_s)
    assert found.decode[2].measured is None
    assert found.decode[2].note == "not measured at this batch size"
    assert (found.paper_tokens_s, found.target_2x, found.decode[0].assumed_tokens_s) == (None, None, None)


@pytest.mark.usefixtures("light")
def test_the_large_model_is_not_built_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "Qwen3Decoder", None)
    found = roofline.run(CONFIGS["1.7b"], "cpu", bandwidth_bytes_s=3.35e12)
    assert found.dtype == "bfloat16"
    assert found.target_2x == 2 * 269.7
    assert all(row.measured is None and row.note == "not measured on a GPU" for row in found.decode)
    assert all(row.assumed_tokens_s for row in found.decode)


@pytest.mark.usefixtures("light")
def test_a_context_without_a_past_is_refused() -> None:
    with pytest.raises(ValueError, match="context"):
        roofline.run(tiny.CONFIG, "cpu", context=1)


def test_ceilings_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "REPEATS", 1)
    monkeypatch.setitem(roofline.COPY_BYTES, "cpu", 1 << 20)
    monkeypatch.setitem(roofline.MATMUL_ROWS, "cpu", 64)
    found = roofline.measure_ceilings(torch.device("cpu"))
    assert all(math.isfinite(rate) and rate > 0 for rate in dataclasses.asdict(found).values())
