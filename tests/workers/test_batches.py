"""Whatever a batch holds, each of its offsets comes out, and what cannot be read says so."""

import logging
import zlib

import pytest
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBase, _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

from streams.errors import Reject
from streams.messages import Record, SessionKey, chunk_headers, parse
from workers.batches import Batches

KEY = SessionKey("default", "k", "s")


class NotText(str):
    """A header name whose bytes on the wire are no UTF-8."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"\xffh"


def packed(*, bad: tuple[int, ...] = (), codec: int = 0, count: int = 4) -> bytes:
    """A batch of chunks; those in `bad` have a header whose name is no text."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 20)
    for n in range(count):
        headers = [*chunk_headers(KEY, n, n * 80, "audio/L16;rate=8000", source="t")]
        if n in bad:
            headers.insert(3, (NotText(), b"v"))
        assert builder.append(n, 1000 + n, b"k", b"%d" % n, headers) is not None
    return bytes(builder.build())


def resealed(batch: bytearray) -> bytes:
    """The same batch with the checksum that its bytes now have."""
    at = DefaultRecordBase.CRC_OFFSET
    batch[at : at + 4] = calc_crc32c(bytes(batch[DefaultRecordBase.ATTRIBUTES_OFFSET :])).to_bytes(4, "big")
    return bytes(batch)


def read(data: bytes) -> list[Record]:
    """What the fetcher would hand on."""
    batches, found = Batches(data), []
    while batches.has_next():
        batch = batches.next_batch()
        assert batch.validate_crc()
        found += [Record("t", 0, r.offset, r.key, r.value, tuple(r.headers), r.timestamp) for r in batch]
    return found


def refusals(records: list[Record]) -> list[str]:
    """Why each record is refused; empty for one that is not."""
    said = []
    for record in records:
        try:
            parse(record, 100)
            said.append("")
        except Reject as reject:
            said.append(str(reject))
    return said


@pytest.mark.parametrize("codec", range(5))
def test_neighbours_of_a_name_that_is_no_text_are_read(codec: int) -> None:
    records = read(packed(bad=(1, 3), codec=codec) + packed(codec=codec))
    assert [r.value for r in records] == [b"0", b"1", b"2", b"3"] * 2
    assert [r.timestamp_ms for r in records[:4]] == [1000, 1001, 1002, 1003]
    assert [bool(said) for said in refusals(records)] == [
        False,
        True,
        False,
        True,
        False,
        False,
        False,
        False,
    ]
    assert "a header name is not UTF-8" in refusals(records)[1]


@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_a_batch_that_cannot_be_unpacked_is_refused_offset_by_offset(codec: int) -> None:
    batch = bytearray(packed(codec=codec))
    body = DefaultRecordBase.HEADER_STRUCT.size
    batch[body:] = zlib.compress(b"something else")[:1] * (len(batch) - body)
    records = read(resealed(batch) + packed())
    assert [r.offset for r in records] == [0, 1, 2, 3] * 2
    assert [said.startswith("schema: ce_type 'unreadable: its batch") for said in refusals(records)] == [
        True
    ] * 4 + [False] * 4


@pytest.mark.parametrize("codec", [1, 3, 4])
def test_a_batch_that_unpacks_to_gigabytes_is_refused_before_it_does(
    codec: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.batches.MOST_UNPACKED_BYTES", 10_000)
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 20)
    builder.append(0, 1000, b"k", bytes(20_000), [])
    (said,) = refusals(read(bytes(builder.build())))
    assert "cannot be unpacked" in said


def test_a_batch_that_ends_in_the_middle_of_a_record_gives_what_is_whole() -> None:
    batch = bytearray(packed())
    at = batch.rindex(b"ce_startsample") - 1  # a header name's length, which then runs past the end
    batch[at] = 0x7E
    said = refusals(read(resealed(batch)))
    assert ["cannot be unpacked" in s for s in said] == [False, False, False, True]


def test_a_wrong_checksum_is_logged_with_its_offset(caplog: pytest.LogCaptureFixture) -> None:
    batch = bytearray(packed())
    batch[-1] ^= 1
    with caplog.at_level(logging.ERROR):
        assert not Batches(bytes(batch)).next_batch().validate_crc()
    assert [(r.getMessage(), r.__dict__["offset"]) for r in caplog.records] == [
        ("record batch with a wrong checksum", 0)
    ]


def test_a_codec_that_nobody_here_knows_is_no_fault_of_the_record() -> None:
    batch = bytearray(packed())
    batch[DefaultRecordBase.ATTRIBUTES_OFFSET + 1] |= 7
    with pytest.raises(UnsupportedCodecError):
        read(resealed(batch))


def test_a_batch_too_short_to_be_one_is_an_error() -> None:
    with pytest.raises(CorruptRecordException):
        Batches(bytes(8) + (3).to_bytes(4, "big") + bytes(3)).next_batch()
