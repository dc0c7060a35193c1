"""Copies of an index that is written to meanwhile."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from isocenter.services.errors import StorageError
from isocenter.storage.database.sqlite.backup import SqliteIndexFile
from isocenter.storage.database.sqlite.connection import connect, create_database
from isocenter.storage.database.sqlite.schema import LATEST_VERSION

COLUMNS = """sop_instance_uid, series_pk, irregular, sop_class_uid, instance_number, image_type,
acquisition_date, acquisition_time, content_date, content_time, number_of_frames, "rows",
"columns", bits_allocated, transfer_syntax_uid, object_key, size, data_set_offset, digest,
created_at, instance_order"""


def _index(path: Path) -> sqlite3.Connection:
    create_database(path)
    connection = connect(path, "full", writable=True)
    connection.execute("PRAGMA foreign_keys = OFF")
    return connection


def _add(connection: sqlite3.Connection, number: int, size: int = 0) -> None:
    uid = f"1.2.3.{number}"
    values = [uid, 1, 0, "1.2", *[""] * 10, "1.2", f"a/{uid}.dcm", size, 0, "d" * 64, "now", 0]
    values[5] = "x" * 2000  # a few pages for each hundred rows
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO instance ({COLUMNS}) VALUES ({marks})", values)


def test_a_copy_is_of_one_moment_and_ends_while_others_write(tmp_path: Path) -> None:
    writer = _index(tmp_path / "index.db")
    for number in range(6_000):
        _add(writer, number)
    seen: list[int] = []

    def write_on(done: int, total: int) -> None:
        # With every step: a copy that begins anew whenever somebody wrote would never end.
        _add(writer, 10_000 + len(seen))
        seen.append(done)
        assert len(seen) < 1_000

    source = SqliteIndexFile(tmp_path / "index.db")
    source.copy_to(tmp_path / "copy.db", write_on)
    assert len(seen) > 2
    assert seen == sorted(seen)
    copy = SqliteIndexFile(tmp_path / "copy.db")
    assert copy.count() == 6_000
    assert source.count() == 6_000 + len(seen)
    assert copy.version() == LATEST_VERSION
    assert not copy.faults()
    # Whole in one file.
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.db"]
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600
    paths = [file.path for file in copy.files()]
    assert paths == sorted(paths)
    assert paths[0] == "objects/a/1.2.3.0.dcm"
    writer.close()


def test_what_progress_raises_stops_it(tmp_path: Path) -> None:
    _index(tmp_path / "index.db").close()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SqliteIndexFile(tmp_path / "index.db").copy_to(tmp_path / "copy.db", stop)


def test_whether_files_are_still_those_of_a_row(tmp_path: Path) -> None:
    writer = _index(tmp_path / "index.db")
    for number in range(3):
        _add(writer, number)
    index = SqliteIndexFile(tmp_path / "index.db")
    files = list(index.files())
    assert index.still_names(files)
    writer.execute("UPDATE instance SET object_key = 'b' WHERE sop_instance_uid = '1.2.3.1'")
    assert not index.still_names(files)
    assert index.still_names(files[:1])
    writer.execute("DELETE FROM instance")
    assert not index.still_names(files[:1])
    writer.close()


def test_what_is_no_index_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is missing"):
        SqliteIndexFile(tmp_path / "no.db").copy_to(tmp_path / "copy.db")
    (tmp_path / "text.db").write_text("no database at all, and long enough to be looked at" * 20)
    with pytest.raises(StorageError, match="is damaged"):
        SqliteIndexFile(tmp_path / "text.db").copy_to(tmp_path / "copy.db")
    assert SqliteIndexFile(tmp_path / "text.db").faults()
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE t (a)")
    foreign.close()
    with pytest.raises(StorageError, match="another program"):
        SqliteIndexFile(tmp_path / "foreign.db").version()


def test_damage_of_a_copy_is_found(tmp_path: Path) -> None:
    writer = _index(tmp_path / "index.db")
    for number in range(500):
        _add(writer, number)
    writer.close()
    path = tmp_path / "index.db"
    with path.open("r+b") as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(b"\xff" * 4096)
    assert SqliteIndexFile(path).faults()
