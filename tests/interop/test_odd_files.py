"""What the archive makes of odd files is what DCMTK and pydicom read."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import trio

from isocenter.engine.dataset import write_data_set
from isocenter.services.archive.maintenance import import_directory
from isocenter.storage.filesystem import open_file_store
from services.archive_support import CT, data_set, opened, uid
from support.odd_files import Ids, odd_files


@pytest.mark.interop("dcmdump")
async def test_odd_files_are_right_once_they_are_archived(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    expected = {}
    for number, name in enumerate(odd_files(Ids(CT, uid(1)), lambda e: write_data_set([], e)), 1):
        ids = Ids(CT, uid(number))
        file = odd_files(ids, lambda e, number=number: data_set(number, encoding=e))[name]  # type: ignore[misc]
        (source / name).write_bytes(file.content)
        expected[uid(number)] = file
    async with opened(await open_file_store(tmp_path / "data")) as archive:
        report = await import_directory(archive, [source])
        assert report.imported == len(expected)
    seen = set()
    for path in (tmp_path / "data" / "objects").rglob("*.dcm"):
        theirs = pydicom.dcmread(path)
        file = expected[theirs.SOPInstanceUID]
        assert theirs.file_meta.TransferSyntaxUID == file.transfer_syntax_uid
        assert theirs.SeriesInstanceUID == "1.2.3.4"
        dump = await trio.run_process(
            ["dcmdump", "-Un", "+E", "-M", "+P", "0002,0010", "+P", "0020,000e", str(path)],
            capture_stdout=True,
            capture_stderr=True,
        )
        assert f"[{file.transfer_syntax_uid}]".encode() in dump.stdout
        assert b"[1.2.3.4]" in dump.stdout
        assert b"W:" not in dump.stderr
        seen.add(theirs.SOPInstanceUID)
    assert seen == set(expected)
