"""The data directory's lock and versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.data_dir import (
    DATA_DIRECTORY_VERSION,
    DataDirectory,
    begin_layout,
    check_layout,
    read_versions,
)
from ops.errors import DataDirectoryLocked, DataDirectoryMismatch


def test_second_user_is_refused_and_told_the_holder(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as first:
        with pytest.raises(DataDirectoryLocked, match=f"process {os.getpid()}$") as refused:
            DataDirectory.open(tmp_path)
        assert refused.value.holder_pid == os.getpid()
        assert first.path == tmp_path
    DataDirectory.open(tmp_path).close()


def test_recorded_version_must_stay_the_same(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path) as directory:
        directory.record_version("redis", "6.2")
        directory.record_version("postgres", "18")
    with DataDirectory.open(tmp_path) as directory:
        directory.record_version("redis", "6.2")
        with pytest.raises(DataDirectoryMismatch, match=r"version 18, and this .* version 19"):
            directory.record_version("postgres", "19")


def test_directory_of_another_layout_is_refused_and_left_unlocked(tmp_path: Path) -> None:
    (tmp_path / "versions.json").write_text('{"data_directory": "0"}')
    for _ in range(2):
        with pytest.raises(DataDirectoryMismatch, match="data_directory version 0"):
            DataDirectory.open(tmp_path)


@pytest.mark.parametrize(
    "text", ['{"data_dir', "[]", '"4"', "{}", '{"redis": "6.2"}', '{"data_directory": 4}', "\ufffe"]
)
def test_damaged_versions_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "versions.json").write_bytes(text.encode("utf-16"))
    for use in (DataDirectory.open, check_layout, read_versions):
        with pytest.raises(DataDirectoryMismatch, match=r"versions\.json is damaged"):
            use(tmp_path)
    (tmp_path / "versions.json").write_text(text)
    for use in (DataDirectory.open, check_layout, read_versions):
        with pytest.raises(DataDirectoryMismatch, match=r"versions\.json is damaged"):
            use(tmp_path)


def test_layout_is_checked_without_a_lock_and_without_a_change(tmp_path: Path) -> None:
    check_layout(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with DataDirectory.open(tmp_path) as directory:
        check_layout(tmp_path)
        assert read_versions(tmp_path) == {"data_directory": DATA_DIRECTORY_VERSION}
        assert directory.path == tmp_path
    (tmp_path / "versions.json").write_text('{"data_directory": "0"}')
    with pytest.raises(DataDirectoryMismatch, match="data_directory version 0, and this is"):
        check_layout(tmp_path)
    assert (tmp_path / "versions.json").read_text() == '{"data_directory": "0"}'


def test_a_process_alone_says_which_layout_it_begins_and_takes_no_other(tmp_path: Path) -> None:
    path = tmp_path / "var"
    for _ in range(2):
        begin_layout(path)
        assert read_versions(path) == {"data_directory": DATA_DIRECTORY_VERSION}
    assert [one.name for one in path.iterdir()] == ["versions.json"]
    with DataDirectory.open(path) as directory:
        directory.record_version("redis", "6.2")
        begin_layout(path)
    assert read_versions(path)["redis"] == "6.2"
    (path / "versions.json").write_text('{"data_directory": "0"}')
    with pytest.raises(DataDirectoryMismatch, match="data_directory version 0, and this is"):
        begin_layout(path)


def test_what_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    for begin in (DataDirectory.open, begin_layout):
        for wrong in (path, path / "var"):
            with pytest.raises(DataDirectoryMismatch, match=rf"^{wrong}.* cannot be (used|read)"):
                begin(wrong)


def test_subdirectories_are_closed_to_others(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "new") as directory:
        assert directory.subdirectory("part").stat().st_mode & 0o777 == 0o700
        assert directory.subdirectory("part").is_dir()
