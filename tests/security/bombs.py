"""Chunks that are small and want to be large once decoded, made on the spot, and what decoding them costs.

    python -m tests.security.bombs FOLDER    a JSON line per chunk: name, what `decode` said, growth in MiB

In: nothing. Out: `BOMBS`, by name: content type, how to make the bytes, and what must become of them. Invariant: none
is larger than what a chunk may be (1 MiB); each used to be, or could be, a chunk that any producer can send.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from streams.audio import AudioLimits, Pcm, decode
from streams.encode import encode
from streams.errors import Reject

MIB = 1 << 20
UNPACKED_BYTES = 160 * MIB  # what a compressed part says it becomes, and does
ADDRESS_SPACE_BYTES = 6 << 30  # a decoder that goes on gets no more, so that a failing test harms nobody
READ = "read"  # decodes to a length within the limits: the bomb in it was not touched


@dataclass(frozen=True)
class Bomb:
    """`fate` are the reasons of Reject that will do, or READ."""

    content_type: str
    make: Callable[[], bytes]
    fate: tuple[str, ...]


def silence(seconds: float, rate: int = 16_000, channels: int = 1) -> Pcm:
    return Pcm(np.zeros((channels, int(seconds * rate)), np.int16), rate)


def file_of(content_type: str, seconds: float = 0.2, rate: int = 16_000, channels: int = 1) -> bytes:
    """One good chunk."""
    chunk_ms = int(seconds * 1000)
    return encode(silence(seconds, rate, channels), content_type, chunk_ms=chunk_ms).chunks[0].payload


def wav(
    *, rate: int = 16_000, channels: int = 1, bits: int = 16, code: int = 1, data: bytes = bytes(6400),
    data_size: int | None = None, before: bytes = b"", magic: bytes = b"RIFF",
) -> bytes:  # fmt: skip
    """A WAV file that may lie about itself; `before` are chunks between header and format."""
    align = min(0xFFFF, channels * bits // 8)
    form = struct.pack("<HHIIHH", code, channels, rate, min(rate * align, 0xFFFFFFFF), align, bits)
    size = len(data) if data_size is None else data_size
    body = b"WAVE" + before + riff(b"fmt ", form) + b"data" + struct.pack("<I", size) + data
    return magic + struct.pack("<I", len(body) if magic == b"RIFF" else 0xFFFFFFFF) + body


def riff(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) & 1)


def packed(pieces: Iterable[bytes], level: int = 9) -> bytes:
    """A zlib stream of all of them, made without ever holding them."""
    packer = zlib.compressobj(level)
    return b"".join(packer.compress(piece) for piece in pieces) + packer.flush()


def synchsafe(number: int) -> bytes:
    return bytes((number >> shift) & 0x7F for shift in (21, 14, 7, 0))


def id3(frames: bytes, size: int | None = None) -> bytes:
    return b"ID3\x04\x00\x00" + synchsafe(len(frames) if size is None else size) + frames


def id3_frame(name: bytes, body: bytes, flags: bytes = b"\x00\x00") -> bytes:
    return name + synchsafe(len(body)) + flags + body


def id3_bomb() -> bytes:
    """A text frame that is compressed and unpacks to UNPACKED_BYTES; FFmpeg takes that much, three times over."""
    text = packed([b"\x00TXXX\x00"] + [b"A" * MIB] * (UNPACKED_BYTES // MIB))
    return id3(id3_frame(b"TXXX", struct.pack(">I", UNPACKED_BYTES) + text, flags=b"\x00\x09"))


def png_bomb(side: int = 16_000) -> bytes:
    """A grey square picture of `side` · `side` bytes."""

    def part(name: bytes, body: bytes) -> bytes:  # fmt: skip
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = packed(bytes(side + 1) for _ in range(side))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def picture(image: bytes) -> bytes:
    """The body of a FLAC PICTURE block, size 0 × 0: who wants to know must decode it."""
    mime = b"image/png"
    return (
        struct.pack(">II", 3, len(mime)) + mime + struct.pack(">I", 0)
        + struct.pack(">IIIII", 0, 0, 0, 0, len(image)) + image
    )  # fmt: skip


def flac_with(kind: int, body: bytes, size: int | None = None) -> bytes:
    """A good FLAC file with one more metadata block after the first."""
    good = file_of("audio/flac")
    block = bytes([kind]) + (len(body) if size is None else size).to_bytes(3, "big") + body
    first = 8 + int.from_bytes(good[5:8], "big")
    return good[:4] + bytes([good[4] & 0x7F]) + good[5:first] + block + rest_marked_last(good, first)


def rest_marked_last(good: bytes, first: int) -> bytes:
    if good[4] & 0x80:  # there was no other block: an empty PADDING block is the last now
        return b"\x81\x00\x00\x00" + good[first:]
    return good[first:]


def flac_with_total(samples: int) -> bytes:
    """A good FLAC file that says it has `samples` samples (36 bits)."""
    made = bytearray(file_of("audio/flac"))
    made[21] = made[21] & 0xF0 | samples >> 32
    made[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(made)


def flac_with_rate(rate: int) -> bytes:
    """A good FLAC file that says it has `rate` (20 bits)."""
    made = bytearray(file_of("audio/flac"))
    made[18:20] = (rate >> 4).to_bytes(2, "big")
    made[20] = made[20] & 0x0F | (rate & 0xF) << 4
    return bytes(made)


def ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
    return crc


def ogg(*streams: Sequence[bytes]) -> bytes:
    """Ogg streams of packets, the first pages of all of them in front."""
    paged = [ogg_pages(packets, serial) for serial, packets in enumerate(streams, 1)]
    return b"".join([pages[0] for pages in paged] + [b"".join(pages[1:]) for pages in paged])


def ogg_pages(packets: Sequence[bytes], serial: int) -> list[bytes]:
    """The first packet on a page of its own."""
    pages, laced = [], [(packets[0],), *batches(packets[1:])]
    for number, group in enumerate(laced):
        table = b"".join(bytes([255] * (len(p) // 255) + [len(p) % 255]) for p in group)
        kind = (2 if number == 0 else 0) | (4 if number == len(laced) - 1 else 0)
        head = b"OggS\x00" + bytes([kind]) + struct.pack("<qII", number * 960, serial, number)
        body = bytes([len(table)]) + table + b"".join(group)
        pages.append(head + struct.pack("<I", ogg_crc(head + bytes(4) + body)) + body)
    return pages


def batches(packets: Sequence[bytes]) -> Iterable[tuple[bytes, ...]]:
    """As many packets to a page as its table of 255 has room for."""
    group: list[bytes] = []
    room = 255
    for packet in packets:
        needed = len(packet) // 255 + 1
        if needed > 255:
            raise ValueError("a packet over several pages is not written here")
        if needed > room:
            yield tuple(group)
            group, room = [], 255
        group.append(packet)
        room -= needed
    if group:
        yield tuple(group)


OPUS_HEAD = b"OpusHead" + struct.pack("<BBHIhB", 1, 2, 0, 48_000, 0, 0)
OPUS_TAGS = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<I", 0)
OPUS_120_MS = bytes([0b0_1000_1_11 | 0x80, 0b0000_0110]) + bytes(
    6
)  # CELT, stereo, six frames of 20 ms in 8 bytes


def opus_hours() -> bytes:
    """Two hours of audio in packets of 8 bytes."""
    return ogg([OPUS_HEAD, OPUS_TAGS, *[OPUS_120_MS] * 60_000])


def opus_tags_bomb() -> bytes:
    """Tags that say they are 2 GiB long, 1 000 000 000 of them."""
    tags = b"OpusTags" + struct.pack("<I", 0) + struct.pack("<II", 1_000_000_000, 0x7FFFFFFF)
    return ogg([OPUS_HEAD, tags, *[OPUS_120_MS] * 10])


class Bits:
    """Vorbis packs from the lowest bit on."""

    def __init__(self) -> None:
        self._number, self._at = 0, 0

    def put(self, value: int, width: int) -> None:
        self._number |= value << self._at
        self._at += width

    def done(self) -> bytes:
        return self._number.to_bytes((self._at + 7) // 8, "little")


def vorbis_bomb() -> bytes:
    """256 codebooks of 16 384 entries in 14 dimensions, each written in 21 bytes and kept in 1 MiB."""
    head = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 16_000, 0, 0, 0, 0xB8, 1)
    bits = Bits()
    bits.put(255, 8)
    for _ in range(256):
        bits.put(0x564342, 24)
        bits.put(14, 16)
        bits.put(16_384, 24)
        bits.put(1, 1)  # ordered: all lengths in one number
        bits.put(13, 5)  # of 14 bits
        bits.put(16_384, 15)
        bits.put(1, 4)  # values by a grid, two to a dimension
        bits.put(0, 32)
        bits.put(0, 32)
        bits.put(0, 4)
        bits.put(0, 1)
        bits.put(0b11, 2)
    bits.put(0, 200)
    bits.put(0, 6 + 1 + 16 + 16 + 8)  # one mode, by which a parser knows that it is a setup header
    bits.put(1, 1)
    setup = b"\x05vorbis" + bits.done()
    comment = b"\x03vorbis" + struct.pack("<II", 0, 0) + b"\x01"
    return ogg([head, comment, setup, bytes(20)])


def video_beside() -> bytes:
    """Opus, and beside it a VP8 picture of 16 000 × 16 000."""
    side = 16_000
    head = b"OVP80\x01\x01\x00" + struct.pack(">HH", side, side) + b"\x00\x00\x01\x00\x00\x01"
    head += struct.pack(">II", 25, 1)
    frame = b"\x10\x02\x00\x9d\x01\x2a" + struct.pack("<HH", side, side) + bytes(400)
    return ogg([head, frame, frame], [OPUS_HEAD, OPUS_TAGS, *[OPUS_120_MS] * 4])


def mp3_hours() -> bytes:
    """Nearly 17 minutes of MP3 at 8 kbit/s in 1 MB."""
    file = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 20), np.int16), format="s16p", layout="mono")
    frame.sample_rate = 8000
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("libmp3lame", rate=8000, layout="mono")
        stream.bit_rate = 8000
        for _ in range(48):
            frame.pts = None
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def mp3() -> bytes:
    file = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16p", layout="mono")
    frame.sample_rate = 16_000
    with av.open(file, "w", format="mp3") as out:
        stream = out.add_stream("libmp3lame", rate=16_000, layout="mono")
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def apic(image: bytes) -> bytes:
    return id3_frame(b"APIC", b"\x00image/png\x00\x03\x00" + image)


WAV, FLAC, OGG, MP3 = "audio/wav", "audio/flac", "audio/ogg", "audio/mpeg"
BOMBS: dict[str, Bomb] = {
    "wav: a rate of 192 MHz": Bomb(WAV, lambda: wav(rate=192_000_000), ("rate",)),
    "wav: the highest rate there is": Bomb(WAV, lambda: wav(rate=0xFFFFFFFF), ("rate", "decode")),
    "wav: 65 535 channels": Bomb(WAV, lambda: wav(channels=65_535), ("codec", "decode")),
    "wav: says it has 2 GiB": Bomb(WAV, lambda: wav(data_size=0x7FFE0000), ("truncated",)),
    "wav: does not know its length": Bomb(WAV, lambda: wav(data_size=0xFFFFFFFF), (READ,)),
    "wav: a format of 2 GiB": Bomb(
        WAV, lambda: wav(before=riff(b"fmt ", b"", 0x7FFF0000)), ("truncated",)
    ),
    "wav: a list of 4 GiB": Bomb(WAV, lambda: wav(before=riff(b"LIST", b"INFO", 0xFFFFFFF0)), ("truncated",)),
    "wav: RF64 with a length of 2^62": Bomb(
        WAV,
        lambda: wav(
            magic=b"RF64", before=riff(b"ds64", struct.pack("<QQQI", 1 << 62, 1 << 62, 1 << 62, 0)),
            data_size=0xFFFFFFFF,
        ),
        ("truncated",),
    ),
    "wav: a compressed tag in it": Bomb(WAV, lambda: wav(before=riff(b"ID3 ", id3_bomb())), (READ,)),
    "wav: a compressed tag before it": Bomb(WAV, lambda: id3_bomb() + wav(), (READ,)),
    "wav: two minutes of telephone": Bomb(
        WAV, lambda: wav(rate=8000, bits=8, code=7, data=bytes(MIB - 100)), ("too_large",)
    ),
    "wav: another codec inside": Bomb(WAV, lambda: wav(code=0x162, bits=16), ("codec", "decode")),
    "flac: ten minutes of silence": Bomb(
        FLAC, lambda: file_of(FLAC, 600), ("too_large",)
    ),
    "flac: eight channels at 192 kHz": Bomb(FLAC, lambda: file_of(FLAC, 40, 192_000, 8), ("too_large",)),
    "flac: says it has 2^36 samples": Bomb(FLAC, lambda: flac_with_total((1 << 36) - 1), ("too_large",)),
    "flac: a rate of 1 MHz": Bomb(FLAC, lambda: flac_with_rate((1 << 20) - 1), ("rate", "decode", READ)),
    "flac: a block of 16 MiB": Bomb(FLAC, lambda: flac_with(4, b"", (1 << 24) - 1), ("decode", "truncated")),
    "flac: a picture that unpacks": Bomb(FLAC, lambda: flac_with(6, picture(png_bomb())), (READ,)),
    "flac: a compressed tag before it": Bomb(FLAC, lambda: id3_bomb() + file_of(FLAC), (READ,)),
    "ogg: two hours of Opus": Bomb(OGG, opus_hours, ("too_large",)),
    "ogg: a billion tags": Bomb(OGG, opus_tags_bomb, (READ, "decode")),
    "ogg: Vorbis codebooks": Bomb(OGG, vorbis_bomb, ("codec", "decode")),
    "ogg: a picture beside the sound": Bomb(OGG, video_beside, (READ, "decode", "codec")),
    "ogg: a compressed tag before it": Bomb(OGG, lambda: id3_bomb() + file_of(OGG), (READ,)),
    "mp3: 16 minutes": Bomb(MP3, mp3_hours, ("too_large",)),
    "mp3: a compressed tag": Bomb(MP3, lambda: id3_bomb() + mp3(), (READ,)),
    "mp3: two compressed tags": Bomb(MP3, lambda: id3_bomb() * 2 + mp3(), (READ,)),
    "mp3: a tag of 256 MiB": Bomb(MP3, lambda: id3(b"", (1 << 28) - 1) + mp3(), ("decode", "truncated")),
    "mp3: a picture that unpacks": Bomb(MP3, lambda: id3(apic(png_bomb())) + mp3(), (READ,)),
}  # fmt: skip


def memory_mib(line: str) -> int:
    """`VmRSS`, what this process holds, or `VmHWM`, the most it has held."""
    status = Path("/proc/self/status").read_text()
    return next(int(row.split()[1]) // 1024 for row in status.splitlines() if row.startswith(line))


def cost(content_type: str, payload: bytes, limits: AudioLimits) -> tuple[str, int]:
    """What becomes of a chunk, and how far memory rose over what was held before, in MiB."""
    before = memory_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    try:
        pcm = decode(content_type, payload, limits)
        fate = READ if pcm.samples.nbytes <= limits.max_decoded_bytes else "over the limit"
    except Reject as reject:
        fate = reject.reason
    return fate, memory_mib("VmHWM") - before


def main(folder: Path) -> None:
    """Decode the files of `folder`, named by their place in BOMBS: this process has made none of them."""
    limits = AudioLimits()
    for content_type in (WAV, FLAC, OGG):
        decode(content_type, file_of(content_type), limits)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    for number, (name, bomb) in enumerate(BOMBS.items()):
        payload = (folder / str(number)).read_bytes()
        fate, growth_mib = cost(bomb.content_type, payload, limits)
        line = {"name": name, "bytes": len(payload), "fate": fate, "growth_mib": growth_mib}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
