"""dcmjs' dicomweb-client, which viewers in browsers stand on, under node against our server."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pydicom
import pytest

from interop.dcmjs import modules
from support.processes import served_archive
from support.studies import ROOT, write_studies

pytestmark = [pytest.mark.interop("node", "npm"), pytest.mark.slow]

SCRIPT = Path(__file__).with_name("dcmjs_client.cjs")


def test_every_service_that_it_knows(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1)
    items = {item.SOPInstanceUID: item for item in map(pydicom.dcmread, files)}
    with served_archive(tmp_path / "archive") as archive:
        done = subprocess.run(
            ["node", str(SCRIPT), str(modules()), archive.web_url, *map(str, files)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    def uids(name: str, tag: str) -> list[str]:
        return [one[tag]["Value"][0] for one in found[name]]

    stored = found["stored"]["00081199"]["Value"]
    assert {one["00081155"]["Value"][0] for one in stored} == set(items)
    assert "00081198" not in found["stored"]
    assert uids("studies", "0020000D") == [f"{ROOT}.1"]
    assert uids("series", "0020000E") == [f"{ROOT}.1.1", f"{ROOT}.1.2"]
    assert uids("instances", "00080018") == [f"{ROOT}.1.1.1", f"{ROOT}.1.1.2"]
    assert found["nobody"] == []
    for name, count in (("studyMetadata", 4), ("seriesMetadata", 2), ("instanceMetadata", 1)):
        assert len(found[name]) == count
    assert len(set(found["studyObjects"])) == 4
    assert set(found["seriesObjects"]) <= set(found["studyObjects"])
    assert found["instance"] in found["seriesObjects"]
    pixels = items[f"{ROOT}.1.1.1"].PixelData
    whole = [hashlib.sha256(pixels).hexdigest()]
    assert found["frames"] == found["framesAsStored"] == found["bulkData"] == whole
    assert found["part"] == [hashlib.sha256(pixels[10:20]).hexdigest()]
    assert found["rendered"] == ["ffd8"] * 4
    assert found["missing"] == 404
