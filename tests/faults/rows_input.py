"""Rows of the fault table about the input: records that are none, damaged audio, disorder, clocks, names used twice.

Each function makes a script; the act of all these rows is the same (one worker, nothing else goes wrong), and so is the
check: the fates are in the script.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from streams.messages import SessionKey, chunk_headers, end_headers
from tests.faults.run import Run
from tests.faults.script import (
    FLAC,
    RAW,
    SOURCE,
    Damage,
    Script,
    partition_of,
    say,
    session,
    usual,
)

CONTENT = RAW + ";rate=16000;channels=1"
TOO_LARGE_BYTES = 200_001  # one more than the setting of the tests
LONGER_THAN_LIMIT = bytes(190_000)  # 47 s at 4 kHz


async def work_through(run: Run) -> None:
    """One worker does it all."""
    await run.produce()
    run.start()


def bad_records(seed: int) -> Script:
    """Every way to be no message of this topic, among good sessions."""
    script, rng = usual(seed), random.Random(seed)
    for number, (reason, key, value, change) in enumerate(_bad()):
        for copy in range(2):
            stream = b"bad-%d" % number
            headers = dict(
                chunk_headers(
                    SessionKey("default", stream.decode(), f"{seed}-{number}-{copy}"),
                    0,
                    0,
                    CONTENT,
                    source=SOURCE,
                )
            )
            for name, text in change.items():
                if text is None:
                    del headers[name]
                else:
                    headers[name] = text
            script.refuse(
                rng.uniform(0.0, 20.0),
                stream if key is None else key,
                value,
                list(headers.items()),
                reason,
                partition=rng.randrange(2),
            )
    return script


def _bad() -> list[tuple[str, bytes | None, bytes | None, dict[str, bytes | None]]]:
    """Reason, key (None: the stream's), value, headers to change."""
    audio = bytes(6400)
    return [
        ("missing_header", None, audio, {"ce_id": None}),
        ("missing_header", None, audio, {"ce_sequence": None}),
        ("missing_header", None, b"rubbish", {"ce_specversion": None, "ce_type": None}),
        ("unsupported_version", None, audio, {"ce_specversion": b"2.0"}),
        ("unsupported_version", None, audio, {"ce_type": b"audio.chunk.v9"}),
        ("schema", None, audio, {"ce_type": b"order.created.v1"}),
        ("schema", b"another key", audio, {}),
        ("schema", None, audio, {"ce_source": b"\xff\xfe"}),
        ("schema", None, audio, {"ce_sequence": b"-1"}),
        ("schema", None, audio, {"ce_startsample": b"1e3"}),
        ("schema", None, audio, {"ce_time": b"yesterday"}),
        ("schema", None, audio, {"ce_sessionid": b"a\x00b"}),
        ("truncated", None, b"", {}),
        ("truncated", None, None, {}),
        ("too_large", None, bytes(TOO_LARGE_BYTES), {}),
        ("codec", None, audio, {"content-type": b"audio/x-unheard-of"}),
        ("rate", None, audio, {"content-type": RAW.encode() + b";rate=123456789;channels=1"}),
    ]


def damaged_audio(seed: int) -> Script:
    """Seeded bit flips and cuts in raw audio, FLAC and WAV, and audio that only its decoder finds too large."""
    script, rng = usual(seed), random.Random(seed)
    for number, content_type in enumerate((FLAC, "audio/wav", RAW, FLAC)):
        damage: dict[int, Damage] = {}
        for sequence in range(3 + number, 70, 7):
            damage[sequence] = rng.choice([_flips(rng), _cut(rng)])
        key = session(f"damaged-{number}", seed)
        say(
            script,
            seed + 20 + number,
            14.0,
            key,
            content_type=content_type,
            damage=damage,
            start_s=0.01 * number,
        )
    for number, (content_type, value) in enumerate(
        [("audio/PCMU;rate=4000", LONGER_THAN_LIMIT), (FLAC, _endless_flac())]
    ):
        key = session(f"large-{number}", seed)
        headers = chunk_headers(key, 0, 0, content_type, source=SOURCE)
        script.refuse(5.0 + number, key.stream_id.encode(), value, headers, "too_large", partition=number)
    return script


def _flips(rng: random.Random) -> Damage:
    at = [rng.random() for _ in range(rng.randint(1, 8))]

    def flip(payload: bytes) -> bytes:
        damaged = bytearray(payload)
        for place in at:
            bit = int(place * len(damaged) * 8)
            damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    return flip


def _cut(rng: random.Random) -> Damage:
    part = rng.uniform(0.02, 0.98)
    return lambda payload: payload[: max(1, int(len(payload) * part))]


def _endless_flac() -> bytes:
    """A FLAC header that promises 2^36 samples, and a frame that is none."""
    info = bytearray(34)
    info[0:4] = (4096).to_bytes(2, "big") * 2
    info[10:18] = (16_000 << 44 | 15 << 36 | (1 << 36) - 1).to_bytes(8, "big")
    return b"fLaC" + bytes([0x80, 0, 0, 34]) + bytes(info) + b"\xff\xf8" + bytes(64)


def disorder(seed: int) -> Script:
    """Chunks twice, out of order, lost, and later than anybody waits."""
    script, rng = Script(), random.Random(seed)
    for number, stream in enumerate(("s0", "s4", "s2", "s5")):
        say(
            script,
            seed + number,
            40.0,
            session(stream, seed),
            channels=1 + number % 2,
            start_s=0.03 * number,
            disorder=rng,
        )
    return script


def skewed_clocks(seed: int) -> Script:
    """Producers whose clocks are an hour off, or are set by an hour in the middle; Kafka takes no stamp beyond that."""
    script = Script()
    hour_s = 3590.0
    clocks: list[Callable[[float], float]] = [
        lambda at_s: hour_s,
        lambda at_s: -hour_s,
        lambda at_s: 0.0 if at_s < 9 else hour_s,
        lambda at_s: hour_s if at_s < 9 else 0.0,
        lambda at_s: 0.0 if at_s < 9 else -hour_s,
    ]
    for number, clock in enumerate(clocks):
        say(script, seed + number, 18.0, session(f"s{number}", seed), start_s=0.02 * number, skew=clock)
    return script


def two_tenants(seed: int) -> Script:
    """The same stream id and the same session id under two tenants (and none): other audio, other rows."""
    script = Script()
    for number, tenant in enumerate(("default", "north", "south")):
        key = session("s0", seed, 0, tenant)
        say(script, seed + number, 18.0, key, channels=1 + number % 2, start_s=0.02 * number)
    return script


def producer_restarts(seed: int) -> Script:
    """A producer begins again at sequence 0: as a new session where it says so, else every chunk is refused by name."""
    script = Script()
    say(script, seed, 10.0, session("s0", seed), ended=False)
    say(script, seed + 1, 10.0, session("s0", seed, 1), start_s=11.0)
    unnamed = SessionKey("default", "s4", "0")
    spoken = say(script, seed + 2, 16.0, unnamed)
    partition, key = partition_of("s4", script.partitions), b"s4"
    for sequence in range(20):  # begins again while the first life still speaks
        headers = chunk_headers(
            unnamed, sequence, sequence * 3200, CONTENT, source=SOURCE, ce_id=f"again-{sequence}"
        )
        script.refuse(8.0 + sequence * 0.2, key, bytes(6400), headers, "sequence_reset", partition)
    after_s = spoken.sound.shape[1] / 16_000 + 5.0
    beyond = chunk_headers(unnamed, 200, 200 * 3200, CONTENT, source=SOURCE, ce_id="beyond")
    script.refuse(after_s, key, bytes(6400), beyond, "after_end", partition)
    end = end_headers(unnamed, 201, source=SOURCE, ce_id="beyond-end")
    script.refuse(after_s + 1, key, b"", end, "after_end", partition)
    return script
