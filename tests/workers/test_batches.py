"""Whatever a batch holds, each of its offsets comes out, and what cannot be read says so."""

import logging
import zlib

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBase, _DefaultRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c

from streams.errors import Reject
from streams.messages import Record, SessionKey, chunk_headers, parse
from workers.batches import DELTA_AT, READS_OF_A_BAD_BATCH, Batches, FetchedRecords

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


def batch_at(base: int, values: list[bytes]) -> bytearray:
    """An unpacked batch that begins at offset `base`; the offset is not part of the checksum."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, 0, 1 << 20)
    for n, value in enumerate(values):
        builder.append(n, 1000 + n, b"k", value, [])
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")
    return built


def fetch(data: bytes, position: int) -> tuple[list[tuple[int, bytes | None]], int]:
    """Records that aiokafka's own loop makes of one fetch from `position`, and where it would go on."""
    fetched = FetchedRecords(TopicPartition("t", 0), Batches(data), [], position, None, None, True, 0)
    return [(r.offset, r.value) for r in fetched], fetched.next_fetch_offset


def good_and_damaged(fresh: bytes) -> tuple[bytes, bytearray, bytes]:
    """Offsets 10-11, 12-14 with a wrong checksum, 15; `fresh` keeps tests apart: damage is known by its bytes."""
    damaged = batch_at(12, [b"c" + fresh, b"d", b"e"])
    damaged[-3] ^= 1
    return bytes(batch_at(10, [b"a", b"b"])), damaged, bytes(batch_at(15, [b"f"]))


def test_a_batch_with_a_wrong_checksum_is_read_again_and_then_given_up_offset_by_offset(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before, damaged, after = good_and_damaged(b"1")
    position = 10
    with caplog.at_level(logging.ERROR):
        for read in range(1, READS_OF_A_BAD_BATCH):
            records, position = fetch(before + bytes(damaged) + after, position)
            assert records == ([(10, b"a"), (11, b"b")] if read == 1 else [])
            assert position == 12
        records, position = fetch(bytes(damaged) + after, position)
    assert records == [(12, None), (13, None), (14, None), (15, b"f")]
    assert position == 16
    places = [(r.getMessage(), r.__dict__["offset"], r.__dict__["reads"]) for r in caplog.records]
    assert places[-1] == ("record batch given up as damaged", 12, READS_OF_A_BAD_BATCH)
    assert places[0] == ("record batch with a wrong checksum", 12, 1)
    data, last = bytes(damaged), []
    for _ in range(READS_OF_A_BAD_BATCH):
        batches = Batches(data, 13)  # the middle of it
        last = [Record("t", 0, r.offset, r.key, r.value, tuple(r.headers), 0) for r in batches.next_batch()]
    assert [r.offset for r in last] == [13, 14]
    assert all("its batch has a wrong checksum" in said for said in refusals(last))


def test_a_checksum_that_is_right_the_next_time_costs_nothing() -> None:
    before, damaged, after = good_and_damaged(b"2")
    whole = bytearray(damaged)
    whole[-3] ^= 1
    assert fetch(before + bytes(damaged) + after, 10)[1] == 12
    records, position = fetch(bytes(whole) + after, 12)
    assert [value for _, value in records] == [b"c2", b"d", b"e", b"f"]
    assert position == 16


def test_damage_that_is_another_each_time_is_never_given_up() -> None:
    _, damaged, after = good_and_damaged(b"3")
    for read in range(10 * READS_OF_A_BAD_BATCH):
        damaged[-4] = read
        assert fetch(bytes(damaged) + after, 12) == ([], 12)


@pytest.mark.parametrize("at", [DELTA_AT + 3, DefaultRecordBase.HEADER_STRUCT.size - 1])
def test_a_damaged_header_is_not_believed(at: int) -> None:
    _, damaged, after = good_and_damaged(b"4 %d" % at)
    damaged[at] += 100
    for _ in range(3 * READS_OF_A_BAD_BATCH):
        assert fetch(bytes(damaged), 12) == ([], 12)  # it may go on for a while, or not: nothing tells
    records, position = fetch(bytes(damaged) + after, 12)
    assert [offset for offset, _ in records] == [12, 13, 14, 15]
    assert position == 16


def test_a_codec_that_nobody_here_knows_is_no_fault_of_the_record() -> None:
    batch = bytearray(packed())
    batch[DefaultRecordBase.ATTRIBUTES_OFFSET + 1] |= 7
    with pytest.raises(UnsupportedCodecError):
        read(resealed(batch))


def test_a_batch_too_short_to_be_one_is_an_error() -> None:
    with pytest.raises(CorruptRecordException):
        Batches(bytes(8) + (3).to_bytes(4, "big") + bytes(3)).next_batch()
