"""What the processor of this machine can do.

In: nothing. Out: whether products in bf16 pay: only where there are instructions for them; elsewhere they are emulated
and twice as slow as fp32. Knows no model. Invariant: False where nothing is known.
"""

from functools import cache
from pathlib import Path


@cache
def has_bf16() -> bool:
    """True when Linux lists avx512_bf16 or amx_bf16 among the processor's flags."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8").split()) if info.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})
