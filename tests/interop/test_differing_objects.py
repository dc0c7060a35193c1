"""Objects that say different things of one patient and study, stored and asked for by DCMTK."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from support.processes import ServedArchive, run, served_archive
from support.studies import ROOT, instance

pytestmark = [pytest.mark.interop("findscu", "storescu", "getscu"), pytest.mark.slow]


def of(study: int, series: int, patient: str, name: str) -> Dataset:
    item = instance(study, series, patient=patient)
    item.PatientName = name
    item.SeriesNumber = series
    return item


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("differing")
    items = (
        of(1, 1, "P18", "Maiden^Anna"),
        of(2, 1, "P18", "Married^Anna"),
        of(3, 1, "TEMP1", "Unknown^Male"),
        of(3, 2, "MRN77", "Real^Name"),
    )
    with served_archive(folder / "archive") as archive:
        for number, item in enumerate(items):
            path = folder / f"{number}.dcm"
            item.save_as(path, enforce_file_format=True)
            sent = run("storescu", "-v", "-aec", "ISOCENTER", "127.0.0.1", archive.port, path)
            assert ("B000" in sent.stdout.upper() or "Coercion" in sent.stdout) is (number == 3)
        yield archive


def find(archive: ServedArchive, model: str, level: str, *keys: str) -> list[dict[str, str]]:
    """The matches of findscu, by keyword."""
    words = [word for key in keys for word in ("-k", key)]
    text = run(
        "findscu", "-v", model, "-aec", "ISOCENTER", "127.0.0.1", archive.port,
        "-k", f"QueryRetrieveLevel={level}", *words,
    ).stdout  # fmt: skip
    matches = re.split(r"Find Response: \d+", text)[1:]
    values = re.compile(r"\[([^\]]*)\] +#.* (\w+)")
    return [{name: value.strip() for value, name in values.findall(each)} for each in matches]


def test_each_study_is_found_by_the_name_in_it(archive: ServedArchive) -> None:
    for name, study in (("Maiden*", 1), ("Married*", 2)):
        (match,) = find(archive, "-S", "STUDY", f"PatientName={name}", "StudyInstanceUID")
        assert match["StudyInstanceUID"] == f"{ROOT}.{study}"
        assert match["PatientName"].startswith(name[:-1])
        (match,) = find(archive, "-P", "PATIENT", f"PatientName={name}", "PatientID")
        assert match["PatientID"] == "P18"
        assert match["PatientName"].startswith(name[:-1])
    (match,) = find(archive, "-P", "PATIENT", "PatientName", "PatientID=P18")
    assert match["PatientName"] == "Married^Anna"


@pytest.mark.parametrize(("patient", "name"), [("TEMP1", "Unknown^Male"), ("MRN77", "Real^Name")])
def test_a_study_of_two_patients_is_found_and_fetched_by_both(
    archive: ServedArchive, patient: str, name: str, tmp_path: Path
) -> None:
    key = f"PatientID={patient}"
    for model, level, number in (
        ("-P", "PATIENT", 1),
        ("-P", "STUDY", 1),
        ("-P", "SERIES", 2),
        ("-S", "STUDY", 1),
    ):
        keys = [] if level == "PATIENT" else [f"StudyInstanceUID={ROOT}.3"]
        matches = find(archive, model, level, key, "PatientName", *keys)
        assert [(m["PatientID"], m["PatientName"]) for m in matches] == [(patient, name)] * number
    run(
        "getscu", "-P", "-aec", "ISOCENTER", "-od", tmp_path, "127.0.0.1", archive.port,
        "-k", "QueryRetrieveLevel=PATIENT", "-k", key,
    )  # fmt: skip
    got = [dcmread(path, stop_before_pixels=True) for path in tmp_path.iterdir()]
    # Whole, and each object as it came.
    assert sorted(item.PatientID for item in got) == ["MRN77", "TEMP1"]
