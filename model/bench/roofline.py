"""What a step must cost, what the device could do, and how near the decoder comes to that.

In: a configuration and a device. Out: a `Roofline`: FLOPs and bytes derived from the configuration alone, the device's
measured ceilings, tokens per second under that roof, and real decode steps of `model.generate.Generator` with random
weights. Knows no checkpoint's weights, no audio and no text.
Invariant: no cost is typed in. `parameters` equals the model built on the meta device, FLOPs equal torch's counter.

FLOPs are those of matrix products and convolutions, two per multiply-add; attention is counted dense (a causal kernel
does half of it). Bytes are weights, read once per pass, and keys and values; activations are left out. A roof is
`min(bandwidth / bytes, FLOP rate / FLOPs)` (Williams et al., 2009). The bandwidth is that of main memory: a model that
fits into a cache may exceed it.

Shapes: M mel bands, T mel frames, L encoder frames (T / 2), D width, F feed-forward width, X = frames per token · D,
E experts, K experts per token, S shared experts, I expert hidden, U expert out, O adapter out, Q query heads,
G key/value heads, H head width, V vocabulary, C keys that a query sees, B batch, b bytes per element.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from model import device as devices
from model.cache import Prefix
from model.config import CONFIGS, AdapterConfig, AudioConfig, DecoderConfig, EurekaConfig
from model.ctc_context import KERNEL
from model.decoder import Qwen3Decoder
from model.device import Placement
from model.features import CHUNK_FRAMES, HOP_SAMPLES, SAMPLE_RATE_HZ
from model.generate import KEY_STEP, PREFILL_STEP, Generator, Job

CONTEXT = 500  # keys per sequence: 375 of 30 s of audio, a prompt and an answer
BATCHES = (1, 8, 32, 64)
MEASURED_BATCHES = (1, 8, 32)
PAPER_TOKENS_S = 269.7  # arXiv 2602.13954: 8×H100 host, batch not stated
MOST_CPU_BYTES = 1 << 30  # a larger decoder is not built on a CPU
STEPS, STEPS_PER_PROMPT = 24, 8  # begun anew so often, keys stay near the context and no text runs in a loop
REPEATS = 7
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # more than any cache
MATMUL_ROWS = {"cpu": 1024, "cuda": 8192}
WINDOW_S = CHUNK_FRAMES * HOP_SAMPLES // SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Work:
    """What one pass takes: FLOPs, bytes of weights read, bytes of keys and values read and written."""

    flops: int
    weight_bytes: int
    kv_read_bytes: int = 0
    kv_write_bytes: int = 0

    @property
    def bytes(self) -> int:
        return self.weight_bytes + self.kv_read_bytes + self.kv_write_bytes

    def least_s(self, bytes_s: float, flops_s: float = math.inf) -> float:
        """Seconds under a roof; by bandwidth alone without a rate of FLOPs."""
        return max(self.bytes / bytes_s, self.flops / flops_s)


@dataclass(frozen=True)
class Ceilings:
    """What the device reached: bytes read plus written by a large copy, FLOPs of a large square product."""

    copy_bytes_s: float
    matmul_fp32_flops_s: float | None
    matmul_bf16_flops_s: float

    def flops_s(self, dtype: torch.dtype) -> float:
        """In fp32 or bf16; fp32 is not measured on a GPU, where nothing runs in it."""
        rate = self.matmul_fp32_flops_s if dtype == torch.float32 else self.matmul_bf16_flops_s
        assert rate is not None
        return rate


@dataclass(frozen=True)
class Decode:
    """A decode step at one batch size. `assumed_tokens_s` is the roof by the bandwidth that was given, if any was."""

    batch: int
    flops: int
    weight_bytes: int
    kv_read_bytes: int
    kv_write_bytes: int
    roof_tokens_s: float
    bound_by: str  # "bandwidth" or "flops"
    assumed_tokens_s: float | None
    measured: float | None  # tokens/s
    step_ms: float | None
    share_of_roof: float | None
    note: str | None


@dataclass(frozen=True)
class Roofline:
    """Costs by the configuration, ceilings of the device, decode steps. Bytes are in `dtype`."""

    config: str
    dtype: str
    context: int
    encoder_parameters: int
    adapter_parameters: int
    decoder_parameters: int
    ctc_parameters: int
    encoder_window_flops: int  # 30 s
    encoder_window_weight_bytes: int
    encoder_second_flops: float  # a thirtieth of that
    encoder_second_weight_bytes: float
    adapter_token_flops: int
    adapter_token_weight_bytes: int  # of the experts that one token visits
    prefill_position_flops: float  # of a prompt of `context` positions
    prefill_position_weight_bytes: float
    prefill_position_kv_write_bytes: float
    device: str
    threads: int
    copy_bytes_s: float
    matmul_fp32_flops_s: float | None
    matmul_bf16_flops_s: float
    assumed_bandwidth_bytes_s: float | None
    paper_tokens_s: float | None  # the released geometry only
    target_2x: float | None  # tokens/s at batch 1
    decode: tuple[Decode, ...]


def run(
    config: EurekaConfig,
    device: str = "auto",
    threads: int = 1,
    context: int = CONTEXT,
    bandwidth_bytes_s: float | None = None,
    compile: bool | None = None,
    batches: Sequence[int] = BATCHES,
    measured: Sequence[int] = MEASURED_BATCHES,
) -> Roofline:
    """Derive, measure the device, measure the decoder there. ValueError for an absent device or a context below 2.

    device, compile: as in `model.device.choose`; fp32 on a CPU, bf16 and compiled on a GPU.
    threads: of the CPU; the engine decodes on one.
    bandwidth_bytes_s: a bandwidth to assume, for the roof of a device that is not here.
    measured: those of `batches` that are also run.
    """
    if context < 2:
        raise ValueError(f"a context of {context}: at least 2 expected")
    placement = devices.choose(device, compile)
    fits = not placement.on_cpu or parameters(config)["decoder"] * 4 <= MOST_CPU_BYTES
    # What is too large for this CPU is for a GPU, where it is bf16.
    dtype = placement.dtype if fits else torch.bfloat16
    size = dtype.itemsize
    with _threads(threads):
        ceilings = measure_ceilings(placement.device)
        steps_s = _decode_steps(config.decoder, placement, context, measured) if fits else {}
    known = parameters(config)
    encoder = encoder_work(config.audio, CHUNK_FRAMES, size)
    adapter = adapter_work(config.adapter, config.audio.d_model, 1, size)
    prefill = prefill_work(config.decoder, context, size)
    released = config.decoder == CONFIGS["1.7b"].decoder
    unmeasured = "not measured at this batch size" if fits else "not measured on a GPU"
    rows = [
        _row(
            batch,
            decode_work(config.decoder, batch, context, size),
            (ceilings.copy_bytes_s, ceilings.flops_s(dtype)),
            bandwidth_bytes_s,
            steps_s.get(batch),
            unmeasured,
        )
        for batch in batches
    ]
    return Roofline(
        config=config.name,
        dtype=str(dtype).removeprefix("torch."),
        context=context,
        **{f"{part}_parameters": count for part, count in known.items()},
        encoder_window_flops=encoder.flops,
        encoder_window_weight_bytes=encoder.weight_bytes,
        encoder_second_flops=encoder.flops / WINDOW_S,
        encoder_second_weight_bytes=encoder.weight_bytes / WINDOW_S,
        adapter_token_flops=adapter.flops,
        adapter_token_weight_bytes=adapter.weight_bytes,
        prefill_position_flops=prefill.flops / context,
        prefill_position_weight_bytes=prefill.weight_bytes / context,
        prefill_position_kv_write_bytes=prefill.kv_write_bytes / context,
        device=_name(placement.device),
        threads=threads,
        **dataclasses.asdict(ceilings),
        assumed_bandwidth_bytes_s=bandwidth_bytes_s,
        paper_tokens_s=PAPER_TOKENS_S if released else None,
        target_2x=2 * PAPER_TOKENS_S if released else None,
        decode=tuple(rows),
    )


def parameters(config: EurekaConfig) -> dict[str, int]:
    """Parameters of each part; a tied output matrix counts once.

    encoder: convolutions `3MD + D + 3D² + D`, positions `PD`, per layer `4D² + 3D` (k has no bias), `2DF + F + D` and
    two norms of `2D`; a last norm.
    adapter: router `XE`, experts and shared ones `(E + S)(XI + IU)`, projection `UO`, norm `2O`.
    decoder: embeddings `VD`, per layer `2DQH + 2DGH + 2H + 3DF + 2D`, norm `D`; untied another `VD`.
    ctc: head `D(V + 1) + V + 1`, per context block `kD² + D + D² + D` and a norm `2D`, k the kernel.
    """
    audio, adapter, decoder = config.audio, config.adapter, config.decoder
    o, v = decoder.hidden, decoder.vocab
    ctc = o * (v + 1) + v + 1 + config.ctc_blocks * (KERNEL * o * o + o + o * o + o + 2 * o)
    return {
        "encoder": _encoder_weights(audio, audio.positions),
        "adapter": _adapter_products(adapter, audio.d_model, adapter.experts) + 2 * adapter.out,
        "decoder": _decoder_weights(decoder) + (0 if decoder.tie_embeddings else v * o),
        "ctc": ctc if config.ctc else 0,
    }


def encoder_work(audio: AudioConfig, mel_frames: int, size: int) -> Work:
    """One window of T mel frames: `2T·3MD + 2L·3D² + layers · (L(8D² + 4DF) + 4L²D)` FLOPs, all weights once."""
    d, length = audio.d_model, mel_frames // 2
    conv = 2 * mel_frames * 3 * audio.n_mels * d + 2 * length * 3 * d * d
    layer = length * (8 * d * d + 4 * d * audio.ffn) + 4 * length * length * d
    return Work(conv + audio.layers * layer, _encoder_weights(audio, length) * size)


def adapter_work(adapter: AdapterConfig, d_model: int, tokens: int, size: int) -> Work:
    """n audio tokens: `2n(XE + (K + S)(XI + IU) + UO)` FLOPs; weights of the min(nK, E) experts they can visit.

    The router is fp32 in every type of model.
    """
    visited = min(tokens * adapter.top_k, adapter.experts)
    router = adapter.frames_per_token * d_model * adapter.experts
    weights = _adapter_products(adapter, d_model, visited) - router + 2 * adapter.out
    flops = 2 * tokens * _adapter_products(adapter, d_model, adapter.top_k)
    return Work(flops, weights * size + router * 4)


def prefill_work(decoder: DecoderConfig, positions: int, size: int) -> Work:
    """A prompt of n positions: `layers · (2n(2DQH + 2DGH + 3DF) + 4n²QH) + 2DV` FLOPs, logits at its end alone."""
    layer = 2 * positions * _layer_products(decoder) + _attention(decoder, positions, positions)
    flops = decoder.layers * layer + 2 * decoder.hidden * decoder.vocab
    return Work(flops, _decoder_weights(decoder) * size, 0, positions * _kv_width(decoder) * size)


def decode_work(decoder: DecoderConfig, batch: int, context: int, size: int) -> Work:
    """One token for each of B sequences whose queries see C keys, their own among them.

    `B · (layers · (2(2DQH + 2DGH + 3DF) + 4C·QH) + 2DV)` FLOPs; all weights once (of an untied embedding table only
    B rows, which is left out); `2 · layers · GH · b` bytes of keys and values per position, C of them read and one
    written per sequence.
    """
    layer = 2 * _layer_products(decoder) + _attention(decoder, 1, context)
    flops = batch * (decoder.layers * layer + 2 * decoder.hidden * decoder.vocab)
    kv = batch * _kv_width(decoder) * size
    return Work(flops, _decoder_weights(decoder) * size, kv * context, kv)


def measure_ceilings(device: torch.device) -> Ceilings:
    """Medians after a warm-up, on as many threads as torch has now."""
    on_cpu = device.type == "cpu"
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy_s = _median_s(lambda: target.copy_(source), device)
    return Ceilings(
        copy_bytes_s=2 * source.nbytes / copy_s,
        matmul_fp32_flops_s=_matmul_flops_s(device, torch.float32) if on_cpu else None,
        matmul_bf16_flops_s=_matmul_flops_s(device, torch.bfloat16),
    )


def _row(
    batch: int,
    work: Work,
    ceilings: tuple[float, float],
    assumed_bytes_s: float | None,
    step_s: float | None,
    unmeasured: str,
) -> Decode:
    bytes_s, flops_s = ceilings
    least_s = work.least_s(bytes_s, flops_s)
    return Decode(
        batch=batch,
        **dataclasses.asdict(work),
        roof_tokens_s=batch / least_s,
        bound_by="bandwidth" if least_s == work.least_s(bytes_s) else "flops",
        assumed_tokens_s=None if assumed_bytes_s is None else batch / work.least_s(assumed_bytes_s),
        measured=None if step_s is None else batch / step_s,
        step_ms=None if step_s is None else step_s * 1e3,
        share_of_roof=None if step_s is None else least_s / step_s,
        note=unmeasured if step_s is None else None,
    )


def _encoder_weights(audio: AudioConfig, positions: int) -> int:
    """Everything, but of the table of positions what is looked at."""
    d = audio.d_model
    conv = 3 * audio.n_mels * d + d + 3 * d * d + d
    layer = 4 * d * d + 3 * d + 2 * d * audio.ffn + audio.ffn + d + 4 * d
    return conv + positions * d + audio.layers * layer + 2 * d


def _layer_products(decoder: DecoderConfig) -> int:
    """Multiply-adds of a layer's matrices per position, which is also their size."""
    width = decoder.hidden * decoder.head_dim
    return 2 * width * decoder.heads + 2 * width * decoder.kv_heads + 3 * decoder.hidden * decoder.ffn


def _adapter_products(adapter: AdapterConfig, d_model: int, experts: int) -> int:
    """The same of the adapter with so many routed experts."""
    x = adapter.frames_per_token * d_model
    expert = x * adapter.hidden + adapter.hidden * adapter.expert_out
    routed_and_shared = (experts + adapter.shared_experts) * expert
    return x * adapter.experts + routed_and_shared + adapter.expert_out * adapter.out


def _attention(decoder: DecoderConfig, queries: int, keys: int) -> int:
    return 4 * queries * keys * decoder.heads * decoder.head_dim


def _decoder_weights(decoder: DecoderConfig) -> int:
    """What a pass reads: of two tables for the vocabulary the output's."""
    layer = _layer_products(decoder) + 2 * decoder.head_dim + 2 * decoder.hidden
    return decoder.vocab * decoder.hidden + decoder.layers * layer + decoder.hidden


def _kv_width(decoder: DecoderConfig) -> int:
    return 2 * decoder.layers * decoder.kv_heads * decoder.head_dim


def _matmul_flops_s(device: torch.device, dtype: torch.dtype) -> float:
    n = MATMUL_ROWS[device.type]
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    out = torch.empty_like(a)
    return 2 * n**3 / _median_s(lambda: torch.mm(a, b, out=out), device)


def _median_s(work: Callable[[], object], device: torch.device) -> float:
    times_s = []
    for _ in range(1 + REPEATS):
        if device.type == "cuda":
            start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            start.record()
            work()
            end.record()
            torch.cuda.synchronize(device)
            times_s.append(float(start.elapsed_time(end)) / 1e3)
        else:
            started_s = time.perf_counter()
            work()
            times_s.append(time.perf_counter() - started_s)
    return statistics.median(times_s[1:])


def _decode_steps(
    config: DecoderConfig, placement: Placement, context: int, batches: Sequence[int]
) -> dict[int, float]:
    """Median seconds of a step of the generator, per batch size; its queries see `context` keys and a few more."""
    torch.manual_seed(0)
    with torch.device(placement.device):
        decoder = Qwen3Decoder(config).to(placement.dtype).eval().requires_grad_(False)
        shape = (config.layers, config.kv_heads, context - 2, config.head_dim)
        prefix = Prefix(*(torch.randn(shape, dtype=placement.dtype) for _ in range(2)))
        embeds_1D = torch.randn(1, config.hidden, dtype=placement.dtype)
        prompt_ids = torch.zeros(context - 1, dtype=torch.long)
    job = Job(embeds_1D, prompt_ids, STEPS_PER_PROMPT + 1, prefix)
    capacity = -(-(context + max(PREFILL_STEP, STEPS_PER_PROMPT)) // KEY_STEP) * KEY_STEP
    found = {}
    for batch in batches:
        torch.compiler.reset()  # graphs of other batch sizes count towards the compiler's limit of them
        # No token ends a text: random weights would.
        generator = Generator(decoder, (), batch, capacity, placement.compile)
        if placement.compile:
            generator.warm_up()
        times_s = []
        for _ in range(1 + STEPS // STEPS_PER_PROMPT):
            generator.abandon()
            generator.admit([(row, job) for row in range(batch)])
            for _ in range(STEPS_PER_PROMPT):
                if not placement.on_cpu:
                    torch.cuda.synchronize(placement.device)
                started_s = time.perf_counter()
                generator.step()  # waits for its tokens, and so for the device
                times_s.append(time.perf_counter() - started_s)
        found[batch] = statistics.median(times_s[STEPS_PER_PROMPT:])
    return found


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
