"""The scripts of the guide to clients, in their order, against the archive and a service."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from support.ports import free_port
from support.processes import program, run, served_archive, wait_for_port

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "use-the-clients.md"
NAMES = ("CT_small.dcm", "JPEG2000.dcm")


@pytest.fixture
def scripts() -> dict[str, str]:
    """Heading → the script under it."""
    found = re.findall(
        r"^## ([^\n]*)\n(?:(?!^## ).)*?```python\n(.*?)```",
        PAGE.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
    return {heading: block for heading, block in found if "trio.run(main)" in block}


def test_the_scripts_do_what_the_guide_says(tmp_path: Path, scripts: dict[str, str]) -> None:
    assert list(scripts) == ["Query", "Send a folder", "Retrieve", "Normalized operations"]
    images = tmp_path / "images"
    images.mkdir()
    for name in NAMES:
        shutil.copy(str(get_testdata_file(name)), images)
    (images / "notes.txt").write_text("no image")
    wanted = pydicom.dcmread(images / "JPEG2000.dcm")
    date = pydicom.dcmread(images / "CT_small.dcm").StudyDate
    clock, log = free_port(), tmp_path / "clock.log"
    service = tmp_path / "service.py"
    service.write_text(
        (ROOT / "examples" / "own_service.py").read_text("utf-8").replace("11114", str(clock))
    )
    with (
        served_archive(tmp_path / "archive") as archive,
        program(sys.executable, service, log=log) as process,
    ):
        wait_for_port(process, clock, log)

        def said_by(heading: str) -> str:
            script = tmp_path / "script.py"
            text = scripts[heading].replace("11112", str(archive.port))
            text = text.replace("11114", str(clock)).replace("20240229", date)
            text = text.replace("1.2.840.10008.5.1.4.1.1.2", wanted.SOPClassUID)
            text = text.replace('"1.2.3")]', f'"{wanted.StudyInstanceUID}")]')
            script.write_text(text, "utf-8")
            done = run(sys.executable, "-X", "dev", script, cwd=tmp_path)
            assert done.returncode == 0, done.stdout
            return done.stdout

        assert said_by("Send a folder") == (
            "skipped: images/notes.txt: not DICOM (neither a Part 10 file nor a data set)\n"
        )
        assert pydicom.dcmread(images / "CT_small.dcm").StudyInstanceUID in said_by("Query")
        assert said_by("Retrieve") == "1 received\n"
        (received,) = (tmp_path / "received").rglob("*.dcm")
        assert received.read_bytes()[-1000:] == (images / "JPEG2000.dcm").read_bytes()[-1000:]
        assert re.fullmatch(r"20[0-9]{6}\n", said_by("Normalized operations"))
