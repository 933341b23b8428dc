"""Record batches as aiokafka's fetcher reads them, and the records in them that its reader refuses.

In: the bytes of one fetch. Out: aiokafka's own batches and records. A header name that is not UTF-8, or a batch
that cannot be unpacked or unpacks to gigabytes, would end the process before any code of ours, again at every
start; here each such record comes out in its place as one of type `unreadable`, which `wire.parse` refuses
(`schema`). Does not know topics. Invariant: no offset of a batch whose checksum is right is skipped, and none raises
for its content. A wrong checksum does raise: that is the broker's or the network's fault, and reading again may help.
"""

import gzip
import io
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import cramjam
import numpy as np
from aiokafka.codec import snappy_decode
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import (
    DefaultRecordBase,
    DefaultRecordBatch,
    _DefaultRecordBatchPy,
    _DefaultRecordPy,
)
from aiokafka.record.memory_records import MemoryRecords

log = logging.getLogger(__name__)

MOST_UNPACKED_BYTES: Final = 1 << 26  # of one batch; a megabyte of zstd may stand for thirty gigabytes
LENGTH_AT, BODY_AT, MAGIC_AT = 8, 12, 16  # byte positions in a batch; its length counts from BODY_AT
ATTRIBUTES_AT: Final = DefaultRecordBase.ATTRIBUTES_OFFSET
RECORDS_AT: Final = DefaultRecordBase.HEADER_STRUCT.size
CODEC_MASK: Final = DefaultRecordBase.CODEC_MASK
UNREADABLE: Final = "unreadable: %s"  # the ce_type of a record in place of one that cannot be read
# What unpacking and reading raise over content. Not UnsupportedCodecError: that is a fault of this installation.
_REFUSED: Final = (
    CorruptRecordException,
    cramjam.DecompressionError,
    zlib.error,
    gzip.BadGzipFile,
    EOFError,
    ValueError,
    IndexError,
    struct.error,
)


def install() -> None:
    """Have aiokafka's fetcher read by `Batches`; it finds its reader by this name and has no parameter for it."""
    fetcher.MemoryRecords = Batches


class Batches:
    """The batches of one fetch; stands in for aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        """Bytes of the fetch."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch."""
        return bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next batch. Raises CorruptRecordException."""
        length = int.from_bytes(self._data[self._at + LENGTH_AT : self._at + BODY_AT], "big")
        raw = self._data[self._at : self._at + BODY_AT + length]
        self._at += len(raw)
        batch = self._records.next_batch()
        return Batch(batch, raw) if raw[MAGIC_AT] >= 2 else batch  # older formats have no headers


class Batch:
    """One batch; everything but reading its records is aiokafka's."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:  # how the fetcher reads a transaction's marker
        return next(self._batch)

    def validate_crc(self) -> bool:
        """Whether the checksum is right; a wrong one is logged with its place, as the fetcher's error has none."""
        right = bool(self._batch.validate_crc())
        if not right:
            log.error("record batch with a wrong checksum", extra={"offset": self._batch.base_offset})
        return right

    def __iter__(self) -> Iterator[Any]:
        offset, raw = self._batch.base_offset, None
        try:
            raw = _unpacked(self._raw)
            for record in DefaultRecordBatch(raw):
                offset = record.offset + 1
                yield record
        except _REFUSED as error:
            log.warning("unreadable record", extra={"offset": offset, "reason": _reason(error)})
            yield from self._stand_ins(offset) if raw is None else self._patiently(raw, offset)

    def _patiently(self, raw: bytes, offset: int) -> Iterator[Any]:
        """The records from `offset` on, by a reader that gets past any name of a header."""
        try:
            for record in _patient_reader(raw):
                if record.offset >= offset:
                    offset = record.offset + 1
                    named = all(_is_utf8(name) for name, _ in record.headers)
                    yield record if named else _stand_in(record, "a header name is not UTF-8")
        except _REFUSED as error:
            log.error("unreadable rest of a batch", extra={"offset": offset, "reason": _reason(error)})
            yield from self._stand_ins(offset)

    def _stand_ins(self, offset: int) -> Iterator[Any]:
        for unread in range(offset, self._batch.next_offset):
            empty = _DefaultRecordPy(unread, self._batch.max_timestamp, 0, None, None, [])
            yield _stand_in(empty, "its batch cannot be unpacked")


def _unpacked(raw: memoryview) -> bytes:
    """The batch without compression. Raises one of _REFUSED, also where it would be over MOST_UNPACKED_BYTES."""
    packed = raw[RECORDS_AT:]
    match raw[ATTRIBUTES_AT + 1] & CODEC_MASK:
        case DefaultRecordBase.CODEC_GZIP:
            with gzip.open(io.BytesIO(packed)) as file:
                records = file.read(MOST_UNPACKED_BYTES + 1)
        case DefaultRecordBase.CODEC_SNAPPY:
            records = snappy_decode(packed.tobytes())  # at most twenty times as large
        case DefaultRecordBase.CODEC_LZ4:
            records = _into_room(cramjam.lz4, packed)
        case DefaultRecordBase.CODEC_ZSTD:
            records = _into_room(cramjam.zstd, packed)
        case _:
            return raw.tobytes()  # not packed, or by a codec that the reader has to refuse
    if len(records) > MOST_UNPACKED_BYTES:
        raise ValueError("unpacks to more than %d bytes" % MOST_UNPACKED_BYTES)
    header = bytearray(raw[:RECORDS_AT])
    header[ATTRIBUTES_AT + 1] &= ~CODEC_MASK & 0xFF
    return bytes(header) + records


def _into_room(codec: Any, packed: memoryview) -> bytes:
    room = np.empty(MOST_UNPACKED_BYTES, np.uint8)  # takes only the memory that is written to
    return room[: codec.decompress_into(packed.tobytes(), room)].tobytes()


def _patient_reader(raw: bytes) -> Any:
    """aiokafka's plain Python reader of an unpacked batch, for which bytes that are no text are no error."""
    batch = _DefaultRecordBatchPy(raw)
    batch._buffer = _PatientBytes(batch._buffer)
    return batch


class _PatientBytes(bytearray):
    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _PatientBytes(found) if isinstance(at, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self).decode(encoding, "surrogateescape")


def _reason(error: Exception) -> str:
    return "%s: %s" % (type(error).__name__, error)


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _stand_in(record: Any, reason: str) -> _DefaultRecordPy:
    """The record with what can be read of it, and a type that says what cannot."""
    kept = [
        (name, value)
        for name, value in record.headers
        if _is_utf8(name) and name.lower() not in ("ce_specversion", "ce_type")
    ]
    headers = [*kept, ("ce_specversion", b"1.0"), ("ce_type", (UNREADABLE % reason).encode())]
    return _DefaultRecordPy(record.offset, record.timestamp, 0, record.key, record.value, headers)
