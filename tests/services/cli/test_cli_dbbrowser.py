"""dbbrowser: pages of an archive, and what cannot be shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pydicom
import pytest

from isocenter.services.cli import main
from services.archive_support import STUDY, uid
from services.cli_support import write_object

Output = pytest.CaptureFixture[str]
OTHER_STUDY = "1.2.9"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen objects: twelve of one series, two of another study, an MR image of a third."""
    folder = tmp_path_factory.mktemp("browse")
    files = folder / "files"
    files.mkdir()
    for number in range(1, 13):
        write_object(files, number)
    for number in (20, 21):
        write_object(files, number, study=OTHER_STUDY, series="1.2.9.1")
    shutil.copy(Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm", files)
    assert main(["import", str(files), "--data-dir", str(folder / "data"), "-q"]) == 0
    return folder / "data"


def run(*words: str | Path) -> int:
    """The exit code, also where the arguments alone are wrong."""
    try:
        return main(["dbbrowser", *map(str, words)])
    except SystemExit as error:
        return int(error.code or 0)


def found(capfd: Output, *words: str | Path) -> list[dict[str, object]]:
    capfd.readouterr()
    assert run(*words, "--json") == 0
    rows: list[dict[str, object]] = json.loads(capfd.readouterr().out)
    return rows


def test_every_level_is_shown(archive: Path, capfd: Output) -> None:
    studies = found(capfd, archive, "studies")
    assert [
        one["NumberOfStudyRelatedInstances"] for one in studies if one["ModalitiesInStudy"] == "CT"
    ]
    assert {one["StudyInstanceUID"] for one in studies} >= {STUDY, OTHER_STUDY}
    dates = [str(one["StudyDate"]) for one in studies]
    assert dates == sorted(dates, reverse=True), "the latest first"
    assert len(found(capfd, archive, "patients")) == 2
    (series,) = found(capfd, archive, "series", "--study-uid", STUDY)
    assert series["NumberOfSeriesRelatedInstances"] == 12
    uid_of_series = str(series["SeriesInstanceUID"])
    instances = found(capfd, archive, "instances", "--series-uid", uid_of_series)
    assert {one["SOPInstanceUID"] for one in instances} == {uid(number) for number in range(1, 13)}


def test_pages_follow_each_other(archive: Path, capfd: Output) -> None:
    pages = [
        found(capfd, archive, "instances", "--limit", "4", "--offset", str(offset))
        for offset in (0, 4, 8, 12)
    ]
    assert [len(page) for page in pages] == [4, 4, 4, 3]
    whole = found(capfd, archive, "instances")
    assert [one for page in pages for one in page] == whole
    assert run(archive, "instances", "--limit", "4") == 0
    assert "4 of 15; --offset 4 shows what follows" in capfd.readouterr().err
    assert run(archive, "instances", "--offset", "99") == 0
    assert "nothing more: 15 match" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--modality", "MR"], 1),
        (["--modality", "CT"], 2),
        (["--from", "20040101", "--to", "20041231"], 1),
        (["--patient-id", "4MR*"], 1),
        (["--patient-name", "compressed*"], 1),
        (["--patient-id", "nobody"], 0),
        (["--study-uid", OTHER_STUDY, "--modality", "MR"], 0),
    ],
)
def test_rows_are_chosen(archive: Path, capfd: Output, words: list[str], count: int) -> None:
    assert len(found(capfd, archive, "studies", *words)) == count


def test_a_table_for_people(archive: Path, capfd: Output) -> None:
    assert run(archive / "index.db", "patients") == 0
    out = capfd.readouterr().out
    assert "PatientID" in out
    assert "4MR1" in out
    assert run("stats", "--data-dir", archive) == 0
    assert "instances                15" in capfd.readouterr().out


def test_missing_files_are_found(archive: Path, tmp_path: Path, capfd: Output) -> None:
    data = tmp_path / "data"
    shutil.copytree(archive, data)
    assert run(data, "verify") == 0
    (path,) = (data / "objects").rglob(f"*{uid(20)}*")
    path.unlink()
    assert run(data, "verify") == 2
    assert uid(20) in capfd.readouterr().err


def test_nothing_is_changed(archive: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(archive, data)

    def contents() -> dict[str, bytes]:
        return {
            str(path): path.read_bytes()
            for path in sorted(data.rglob("*"))
            if path.is_file() and not path.name.startswith("index.db-")
        }

    before = contents()
    for action in ("patients", "studies", "series", "instances", "stats"):
        assert run(data, action) == 0
    assert contents() == before


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["/nowhere", "studies"], 2, "no archive is there"),
        (["studies", "--data-dir", "/nowhere"], 2, "no archive is there"),
        (["/nowhere", "people"], 1, "is none of patients"),
        (["a", "b", "studies"], 1, "one database"),
        ([], 1, "required"),
        (["x", "studies", "--limit", "0"], 1, "whole number"),
        (["x", "studies", "--from", "2026-01-01"], 1, "no date as YYYYMMDD"),
        (["x", "studies", "--study-uid", "../x"], 1, "is no UID"),
    ],
)
def test_what_cannot_be(capfd: Output, words: list[str], code: int, text: str) -> None:
    assert run(*words) == code
    error = capfd.readouterr().err
    assert text in error
    assert "Traceback" not in error
