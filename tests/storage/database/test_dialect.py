"""What databases write differently is written by the dialect module, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import isocenter.storage.database.dialect as dialect_module

FOLDER = Path(dialect_module.__file__).parent
#: Each in upper or lower case, in text or code.
OF_SQLITE_ALONE = re.compile(
    r"json_each|\?[0-9]|lastrowid|ON CONFLICT DO UPDATE|INSERT OR |\biif\(|\bifnull\("
    r"|\binstr\(|INDEXED BY|sqlite_|group_concat|\browid\b|PRAGMA|import sqlite3|WITHOUT ROWID"
    r"|CROSS JOIN|LIMIT -1|\bGLOB [?'\":]|\bREPLACE INTO|\btotal\(|\bjulianday\("
    r"|\bunixepoch\(|\bprintf\(|\btypeof\(|\bchanges\(\)|AUTOINCREMENT|\bX'[0-9A-F]*'"
    r"|\bIS NOT [?:]|\bIS [?:]|\bMATCH [?:]|\bREGEXP\b",
    re.IGNORECASE,
)
#: They read a schema in memory, and keep a file of their own, whatever the archive has.
OF_FILES = ("layout.py", "copy_record.py", "index_file.py")
#: All but the drivers themselves.
MODULES = [
    path
    for path in sorted(FOLDER.rglob("*.py"))
    if path.name not in ("dialect.py", *OF_FILES)
    and not {"sqlite", "postgresql"}.intersection(path.relative_to(FOLDER).parts)
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_tables_write_what_all_databases_read(path: Path) -> None:
    found = [
        (number, line.strip())
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if OF_SQLITE_ALONE.search(line)
    ]
    assert found == []


def test_the_words_are_found_where_they_stand() -> None:
    assert OF_SQLITE_ALONE.search((FOLDER / "dialect.py").read_text("utf-8"))
