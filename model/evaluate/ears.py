"""Audio of any length as the decoder is given it.

In: an engine and int16 audio at 16 kHz. Out: audio embeddings. Knows no task. Invariant: audio of more than 30 s is
encoded in chunks of 30 s, as the released model does it, and of less as the engine itself encodes it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from model import device
from model.engine import Engine
from model.evaluate.asr import Audio
from model.features import log_mel


@torch.inference_mode()
def embeddings(engine: Engine, audio: Audio) -> Tensor:
    """`[N, O]`, one for each 80 ms. Raises ValueError for audio without a sample."""
    if not len(audio):
        raise ValueError("audio without a sample")
    placement = engine.placement
    wave = torch.from_numpy(audio.astype(np.float32) / 32768.0).to(placement.device)
    mel_MT = log_mel(wave, engine.config.audio.n_mels).to(placement.dtype)
    with device.one_thread(placement):
        adapted = engine.model.adapt(engine.model.encode([mel_MT]))
    return adapted.embeds_BNO[0, : int(adapted.tokens_B[0])]
