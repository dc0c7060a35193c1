"""Objects that are not valid, sent by DCMTK to a server that validates."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from support.processes import run, served_archive

pytestmark = [pytest.mark.interop("storescu"), pytest.mark.slow]

CT = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
RULES = """
[storage]
validation = "warn"

[[rules]]
name = "strict"
when = { calling_ae = "STRICT", sop_class_uid = "1.2.840.10008.5.1.4.1.1.2" }
validate = "reject"

[[rules]]
name = "known faults"
when = { calling_ae = "OLD" }
validate = "off"
"""


def test_the_answer_follows_the_policy_of_sender_and_SOP_class(tmp_path: Path) -> None:
    settings = tmp_path / "isocenter.toml"
    settings.write_text(RULES)
    data_set = pydicom.dcmread(CT)
    del data_set.FrameOfReferenceUID
    answers = {}
    with served_archive(tmp_path / "archive", "--config", settings) as archive:
        for number, sender in enumerate(("ANY", "STRICT", "OLD", "STRICT")):
            data_set.SOPInstanceUID = f"1.2.3.{number}"
            data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
            if number == 3:
                data_set.FrameOfReferenceUID = "1.2.4"
            path = tmp_path / f"{number}.dcm"
            data_set.save_as(path, enforce_file_format=True)
            done = run(
                "storescu", "-d", "-aet", sender, "-aec", "ISOCENTER", "127.0.0.1",
                archive.port, path,
            )  # fmt: skip
            answers[number] = done.stdout.lower()
    assert "0xb007" in answers[0]
    assert "kept; not valid: ct-type1-missing frameofreferenceuid" in answers[0]
    assert "0xa900" in answers[1]
    assert "0x0000: success" in answers[2]
    assert "0x0000: success" in answers[3]
