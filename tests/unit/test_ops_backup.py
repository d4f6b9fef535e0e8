"""What a backup copies while the venue runs."""

from __future__ import annotations

from pathlib import Path

from engine.journal_reader import archived_path
from ops.backup import copy_segment


def test_a_segment_that_was_compressed_meanwhile_is_copied_as_it_is_now(tmp_path: Path) -> None:
    path, target = tmp_path / "0001.journal", tmp_path / "copy"
    target.mkdir()
    archived_path(path).write_bytes(b"compressed")
    name, copied = copy_segment(path, target)
    assert (name, copied.size_bytes) == (archived_path(path).name, len(b"compressed"))
    assert [one.read_bytes() for one in target.iterdir()] == [b"compressed"]
