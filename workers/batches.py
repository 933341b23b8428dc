"""Record batches as aiokafka's fetcher reads them, and the records in them that its reader refuses.

In: the bytes of one fetch. Out: aiokafka's own batches and records. A header name that is not UTF-8, a batch that
cannot be unpacked or unpacks to gigabytes, or one with a wrong checksum would end the process before any code of ours,
again at every start; here each such record comes out in its place as one of type `unreadable`, which `wire.parse`
refuses (`schema`). A wrong checksum may be the network's fault: the batch is read again, and counts as damaged only
when the very same bytes have come `READS_OF_A_BAD_BATCH` times. Does not know topics.
Invariants: no offset of a batch is skipped, and none raises for its content; nothing of a batch with a wrong checksum
is believed. How far a damaged batch goes is taken from what follows it, else from its own header where that makes
sense; where nothing tells, it is read again until something does (and the watchdog sees the standstill).
"""

import gzip
import io
import logging
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b
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
READS_OF_A_BAD_BATCH: Final = 5
MOST_BAD_BATCHES: Final = 64  # that are remembered at a time
MOST_LOST_RECORDS: Final = 1 << 20  # of one batch; a header that says more is damaged too
LENGTH_AT, BODY_AT, MAGIC_AT, DELTA_AT = (
    8,
    12,
    16,
    23,
)  # byte positions in a batch; its length counts from BODY_AT
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
    """Have aiokafka's fetcher read by `Batches`; it finds its readers by these names and has no parameter for them."""
    fetcher.MemoryRecords = Batches
    fetcher.PartitionRecords = FetchedRecords


class FetchedRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """aiokafka's reader of one fetch; tells the batches which offset was asked for."""

    def __init__(
        self, tp: Any, records: Any, aborted_transactions: Any, fetch_offset: int, *rest: Any
    ) -> None:
        records.next_offset = fetch_offset
        super().__init__(tp, records, aborted_transactions, fetch_offset, *rest)


class Batches:
    """The batches of one fetch; stands in for aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes, next_offset: int = 0) -> None:
        """`next_offset`: the first offset that is still wanted."""
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0
        self.next_offset = next_offset
        self._ends_here = False

    def size_in_bytes(self) -> int:
        """Bytes of the fetch."""
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        """Whether there is another whole batch to be read now."""
        return not self._ends_here and bool(self._records.has_next())

    def next_batch(self) -> Any:
        """The next batch. Raises CorruptRecordException where there is none in the bytes."""
        length = _number(self._data[self._at + LENGTH_AT : self._at + BODY_AT])
        raw = self._data[self._at : self._at + BODY_AT + length]
        self._at += len(raw)
        batch = self._records.next_batch()
        if not batch.validate_crc():
            return self._damaged(raw)
        self.next_offset = batch.next_offset
        return Batch(batch, raw) if raw[MAGIC_AT] >= 2 else batch  # older formats have no headers

    def _damaged(self, raw: memoryview) -> "Damaged":
        """In place of a batch with a wrong checksum: nothing, so that it is read again, or what it has cost."""
        first = self.next_offset
        reads = _count(raw)
        place = {"offset": first, "reads": reads}
        log.error("record batch with a wrong checksum", extra=place)
        end = self._end_of(raw) if reads >= READS_OF_A_BAD_BATCH else None
        if end is None:
            self._ends_here = True  # the fetcher reads again from where it stands
            return Damaged(first, first)
        log.error("record batch given up as damaged", extra=place | {"records": end - first})
        self.next_offset = end
        return Damaged(first, end)

    def _end_of(self, raw: memoryview) -> int | None:
        """The offset after a damaged batch, by its neighbour or its own header; None when neither can be believed."""
        first, following = self.next_offset, self._data[self._at :]
        if len(following) > RECORDS_AT and following[MAGIC_AT] == 2:
            length = _number(following[LENGTH_AT:BODY_AT])
            whole = following[: BODY_AT + length]
            if len(whole) == BODY_AT + length and DefaultRecordBatch(whole).validate_crc():
                end = _number(whole[:LENGTH_AT])
                return end if first < end <= first + MOST_LOST_RECORDS else None
        base, count = _number(raw[:LENGTH_AT]), _number(raw[DELTA_AT : DELTA_AT + 4]) + 1
        as_many = count == _number(raw[RECORDS_AT - 4 : RECORDS_AT]) <= MOST_LOST_RECORDS
        return base + count if as_many and base <= first < base + count else None


_bad_reads: OrderedDict[bytes, int] = OrderedDict()


def _number(raw: memoryview) -> int:
    return int.from_bytes(raw, "big")


def _count(raw: memoryview) -> int:
    """How often these very bytes have come with a wrong checksum."""
    digest = blake2b(raw, digest_size=16).digest()
    reads = _bad_reads.pop(digest, 0) + 1
    _bad_reads[digest] = reads
    if len(_bad_reads) > MOST_BAD_BATCHES:
        _bad_reads.popitem(last=False)
    return reads


class Damaged:
    """The records `first` to `end` (not included) of a batch of which nothing can be believed."""

    is_control_batch = False
    is_transactional = False
    producer_id = None

    def __init__(self, first: int, end: int) -> None:
        self.base_offset = first
        self.next_offset = end

    def validate_crc(self) -> bool:
        """There is nothing left to be checked."""
        return True

    def __iter__(self) -> Iterator[Any]:
        for offset in range(self.base_offset, self.next_offset):
            empty = _DefaultRecordPy(offset, -1, 0, None, None, [])
            yield _stand_in(empty, "its batch has a wrong checksum")


class Batch:
    """One batch; everything but reading its records is aiokafka's."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        """It has been checked."""
        return True

    def __next__(self) -> Any:  # how the fetcher reads a transaction's marker
        return next(self._batch)

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
