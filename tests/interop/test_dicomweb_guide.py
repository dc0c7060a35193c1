"""The lines and the script of the page about asking a DICOMweb service, against an archive."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pydicom

from support.pages import text_of
from support.processes import isocenter_command, run, served_archive
from support.studies import ROOT, instance, write_studies

PAGE = "docs/how-to/use-dicomweb.md"
URL = "http://127.0.0.1:8080/dicomweb"


def test_the_lines_and_the_script_do_what_the_page_says(tmp_path: Path) -> None:
    page = text_of(PAGE)
    lines = [line.strip() for line in page.splitlines() if line.startswith("    isocenter ")]
    assert len(lines) == 9
    files = write_studies(tmp_path / "images", studies=1)
    config = tmp_path / "web.toml"
    config.write_text("[web]\ndeletes = true\n")
    with served_archive(tmp_path / "archive", "--config", config) as archive:
        names = {URL: archive.web_url, "1.2.3": f"{ROOT}.1", "DOE*": "Müller*"}

        def said_by(line: str) -> str:
            for old, new in names.items():
                line = line.replace(old, new)
            words = shlex.split(line)[1:]
            done = isocenter_command(*words, cwd=tmp_path)
            assert done.returncode == 0, done.stdout
            return done.stdout

        store, *searches = lines[:4]
        assert "4 sent in" in said_by(store)
        for line in searches[:2]:
            assert f"{ROOT}.1" in said_by(line)
        assert len(json.loads(said_by(searches[2]))) == 2
        for line in lines[4:6]:
            said_by(line)
        came = sorted((tmp_path / "downloads").rglob("*.dcm"))
        sent = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, files)}
        assert {one.SOPInstanceUID: one for one in map(pydicom.dcmread, came)} == sent
        assert f'"{instance().AccessionNumber}"' in said_by(lines[6])
        said_by(lines[7])
        assert (tmp_path / "picture.jpg").read_bytes().startswith(b"\xff\xd8")
        (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:1]
        for old, new in names.items():
            script = script.replace(old, new)
        (tmp_path / "script.py").write_text(script, "utf-8")
        done = run(sys.executable, "-X", "dev", "script.py", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "0 written\n"), done.stdout
        assert "1 deleted" in said_by(lines[8])
