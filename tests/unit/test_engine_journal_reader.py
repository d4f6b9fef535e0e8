"""Reading a journal's directory: order, gaps, damage, names."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.errors import JournalCorrupt, JournalGap, JournalMismatch
from engine.journal import Record, SegmentHeader, encode_header, encode_records, header_seed
from engine.journal_file import JournalFile
from engine.journal_reader import JournalReader, read_header, segment_path, segment_paths


def records_of(first: int, count: int) -> list[Record]:
    return [
        Record(key="BTC-USD", seq=seq, ts_ns=seq, flags=0, payload=b"order %d" % seq)
        for seq in range(first, first + count)
    ]


def write_segment(
    directory: Path, records: list[Record], *, first_record: int, keeps_positions: bool = True
) -> Path:
    header = encode_header(
        SegmentHeader(
            kind="commands",
            owner="1",
            incarnations={},
            first_record=first_record,
            created_ns=1,
            positions={"BTC-USD": first_record} if keeps_positions else None,
        )
    )
    path = segment_path(directory, first_record)
    seed = header_seed(header)
    path.write_bytes(header + b"".join(encode_records([record], seed=seed) for record in records))
    return path


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_segments_are_read_in_the_order_of_their_records(tmp_path: Path) -> None:
    for first in (9, 0, 10):
        write_segment(tmp_path, records_of(first + 1, 9 if first == 0 else 1), first_record=first)
    assert [path.name for path in segment_paths(tmp_path)] == [
        "0000000000000000.journal",
        "0000000000000009.journal",
        "0000000000000010.journal",
    ]
    reader = JournalReader(tmp_path)
    assert [record.seq for record in reader] == list(range(1, 12))
    assert [record.seq for record in reader] == list(range(1, 12))
    assert reader.positions() == {"BTC-USD": 11}


def test_empty_directory_is_an_empty_journal(tmp_path: Path) -> None:
    assert list(JournalReader(tmp_path)) == []
    assert JournalReader(tmp_path).positions() == {}


def test_positions_of_a_segment_without_records_are_those_of_its_header(tmp_path: Path) -> None:
    write_segment(tmp_path, [], first_record=7)
    assert JournalReader(tmp_path).positions() == {"BTC-USD": 7}


def test_unfinished_end_of_the_last_segment_is_where_reading_stops(tmp_path: Path) -> None:
    path = write_segment(tmp_path, records_of(1, 3), first_record=0)
    path.write_bytes(path.read_bytes()[:-1])
    assert [record.seq for record in JournalReader(tmp_path)] == [1, 2]


def test_unfinished_end_of_an_earlier_segment_is_corrupt(tmp_path: Path) -> None:
    path = write_segment(tmp_path, records_of(1, 3), first_record=0)
    path.write_bytes(path.read_bytes()[:-1])
    write_segment(tmp_path, records_of(4, 1), first_record=3)
    with pytest.raises(JournalCorrupt, match=r"torn by \d+ bytes, though 0000000000000003.journal"):
        list(JournalReader(tmp_path))


def test_damage_names_file_and_offset_after_the_records_before_it(tmp_path: Path) -> None:
    whole = write_segment(tmp_path, records_of(1, 1), first_record=0).stat().st_size
    path = write_segment(tmp_path, records_of(1, 3), first_record=0)
    flip(path, whole + 20)
    reader = iter(JournalReader(tmp_path))
    assert next(reader).seq == 1
    with pytest.raises(JournalCorrupt) as raised:
        next(reader)
    assert raised.value.path == str(path)
    assert raised.value.offset_bytes == whole


def test_a_missing_segment_is_named_by_the_records_that_are_gone(tmp_path: Path) -> None:
    first = write_segment(tmp_path, records_of(1, 2), first_record=0)
    write_segment(tmp_path, records_of(5, 1), first_record=4)
    with pytest.raises(JournalGap, match=f"^journal {tmp_path}: records 2 to 3 are missing: a seg"):
        list(JournalReader(tmp_path))
    # The oldest one is missed as well, by whoever wants all records.
    first.unlink()
    with pytest.raises(JournalGap, match="records 0 to 3 are missing"):
        list(JournalReader(tmp_path))
    assert list(JournalReader(tmp_path).remaining()) == records_of(5, 1)
    assert list(JournalReader(tmp_path).read_from({"BTC-USD": 4})) == records_of(5, 1)


def test_segments_that_overlap_are_corrupt(tmp_path: Path) -> None:
    write_segment(tmp_path, records_of(1, 2), first_record=0)
    write_segment(tmp_path, records_of(2, 1), first_record=1)
    with pytest.raises(JournalCorrupt, match="begins with record 1, expected 2"):
        list(JournalReader(tmp_path))


def test_segment_under_another_name_is_corrupt(tmp_path: Path) -> None:
    path = write_segment(tmp_path, records_of(1, 2), first_record=0)
    path.rename(segment_path(tmp_path, 5))
    with pytest.raises(JournalCorrupt, match="segment of record 0 under another name"):
        list(JournalReader(tmp_path))


def test_repeated_seq_is_corrupt_in_a_journal_with_positions_only(tmp_path: Path) -> None:
    twice = records_of(1, 1) * 2
    path = write_segment(tmp_path, twice, first_record=0, keeps_positions=False)
    assert list(JournalReader(tmp_path)) == twice
    assert JournalReader(tmp_path).positions() == {}
    path = write_segment(tmp_path, twice, first_record=0)
    with pytest.raises(JournalCorrupt, match="expected a seq above 1, found 1") as raised:
        list(JournalReader(tmp_path))
    first_frame = write_segment(tmp_path, twice[:1], first_record=0).stat().st_size
    assert (raised.value.path, raised.value.offset_bytes) == (str(path), first_frame)


def test_damaged_header_is_corrupt_and_another_version_a_mismatch(tmp_path: Path) -> None:
    path = write_segment(tmp_path, [], first_record=0)
    flip(path, 20)
    with pytest.raises(JournalCorrupt, match="wrong checksum"):
        list(JournalReader(tmp_path))
    write_segment(tmp_path, [], first_record=0)
    flip(path, 8)
    with pytest.raises(JournalMismatch, match=r"0000.*\.journal: journal format 0, expected 1"):
        list(JournalReader(tmp_path))


def test_reading_from_a_seq_leaves_out_what_is_before_and_other_keys(tmp_path: Path) -> None:
    mixed = [msgspec.structs.replace(one, key="hash:BTC-USD") for one in records_of(1, 4)]
    write_segment(tmp_path, records_of(1, 4) + mixed, first_record=0)
    reader = JournalReader(tmp_path)
    assert list(reader.read_from({"BTC-USD": 2})) == records_of(3, 2)
    assert list(reader.read_from({"BTC-USD": 4})) == []
    assert list(reader.read_from({"BTC-USD": 3, "hash:BTC-USD": 3})) == [
        records_of(4, 1)[0],
        mixed[3],
    ]
    assert list(reader.read_from({"ETH-USD": 0})) == []


def test_reading_from_a_seq_does_not_read_the_segments_before_it(tmp_path: Path) -> None:
    first = write_segment(tmp_path, records_of(1, 3), first_record=0)
    write_segment(tmp_path, records_of(4, 3), first_record=3)
    write_segment(tmp_path, records_of(7, 3), first_record=6)
    flip(first, first.stat().st_size - 1)
    reader = JournalReader(tmp_path)
    assert list(reader.read_from({"BTC-USD": 3})) == records_of(4, 6)
    assert list(reader.read_from({"BTC-USD": 7})) == records_of(8, 2)
    with pytest.raises(JournalCorrupt):
        list(reader.read_from({"BTC-USD": 2}))
    assert list(JournalReader(tmp_path / "none").read_from({"BTC-USD": 2})) == []


def test_reading_from_a_seq_reads_all_of_a_journal_without_positions(tmp_path: Path) -> None:
    write_segment(tmp_path, records_of(5, 3), first_record=0, keeps_positions=False)
    write_segment(tmp_path, records_of(1, 3), first_record=3, keeps_positions=False)
    found = JournalReader(tmp_path).read_from({"BTC-USD": 2})
    assert [record.seq for record in found] == [5, 6, 7, 3]


def test_last_records_are_found_without_reading_what_lies_between(tmp_path: Path) -> None:
    file = JournalFile(
        tmp_path,
        kind="commands",
        owner="1",
        incarnations={},
        keeps_positions=True,
        now_ns=lambda: 1,
        segment_bytes_max=1,
    )
    quiet = msgspec.structs.replace(records_of(7, 1)[0], key="ledger")
    older = msgspec.structs.replace(quiet, seq=6)
    for one in (*records_of(1, 1), older, *records_of(2, 2), quiet, *records_of(4, 4)):
        file.append([one])
    file.close()
    for path in [
        path for path in segment_paths(tmp_path)[:-1] if b"order 7" not in path.read_bytes()
    ]:
        flip(path, path.stat().st_size - 1)
    reader = JournalReader(tmp_path)
    wanted = ("BTC-USD", "ledger", "ETH-USD")
    assert reader.tails(wanted) == {"BTC-USD": records_of(7, 1)[0], "ledger": quiet}
    assert JournalReader(tmp_path / "none").tails(wanted) == {}

    # Its segment is gone: an earlier record of it is not the last one.
    number_alone = Record("ledger", 7, 0, 0, b"")
    [of_quiet] = [one for one in segment_paths(tmp_path) if read_header(one).first_record == 4]
    of_quiet.unlink()
    for path in segment_paths(tmp_path)[:2]:
        flip(path, path.stat().st_size - 1)
    assert reader.tails(wanted)["ledger"] == number_alone
    for path in segment_paths(tmp_path)[:-1]:
        path.unlink()
    assert reader.tails(wanted)["ledger"] == number_alone


def test_long_header_is_read_whole(tmp_path: Path) -> None:
    incarnations = {f"SYMBOL-{number}": "0123456789abcdef" * 4 for number in range(2_000)}
    header = SegmentHeader("commands", "1", incarnations, 0, 1, {})
    path = segment_path(tmp_path, 0)
    path.write_bytes(encode_header(header))
    assert read_header(path) == header
    path.write_bytes(encode_header(header)[:-1])
    with pytest.raises(JournalCorrupt, match="wrong checksum"):
        read_header(path)
