"""Keys below the level and lists of nothing, as findscu and pynetdicom ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
)

from support.processes import ServedArchive, isocenter_command, run, served_archive
from support.studies import ROOT, instance

pytestmark = [
    pytest.mark.interop("findscu"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

SUCCESS, PENDING, UNSUPPORTED, DOES_NOT_MATCH = 0x0000, 0xFF00, 0xFF01, 0xA900
#: Of studies 1 to 3, by series.
MODALITIES = (("CT",), ("MR",), ("CT", "SR"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    folder = tmp_path_factory.mktemp("keys")
    files = folder / "files"
    files.mkdir()
    for study, modalities in enumerate(MODALITIES, 1):
        for series, modality in enumerate(modalities, 1):
            item = instance(study, series, patient=f"P{study}")
            item.Modality = modality
            item.save_as(files / f"{study}-{series}.dcm", enforce_file_format=True)
    with served_archive(folder / "archive") as archive:
        sent = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{archive.port}", files)
        assert sent.returncode == 0, sent.stdout
        yield archive


def find(
    archive: ServedArchive,
    keys: dict[str, str],
    level: str = "STUDY",
    model: Any = StudyRootQueryRetrieveInformationModelFind,
) -> tuple[set[int], list[Dataset]]:
    """pynetdicom's question: the statuses before the last, or the only one; and the matches."""
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(identifier, name, value)
    ae = AE("PYNETDICOM")
    ae.add_requested_context(model)
    association = ae.associate("127.0.0.1", archive.port, ae_title="ISOCENTER")
    assert association.is_established
    answers = list(association.send_c_find(identifier, model))
    association.release()
    statuses = {int(status.Status) for status, _ in answers}
    matches = [match for _, match in answers if match is not None]
    return statuses - {SUCCESS} or statuses, matches


def studies(matches: list[Dataset]) -> list[int]:
    return sorted(int(str(match.StudyInstanceUID).removeprefix(f"{ROOT}.")) for match in matches)


@pytest.mark.parametrize(
    ("modality", "found"),
    [("CT", [1, 3]), ("SR", [3]), ("US", []), ("MR\\SR", [2, 3]), ("C*", [1, 3]), ("", [1, 2, 3])],
)
def test_modality_of_studies(archive: ServedArchive, modality: str, found: list[int]) -> None:
    keys = {"Modality": modality, "StudyInstanceUID": ""}
    statuses, matches = find(archive, keys)
    assert studies(matches) == found
    assert statuses == ({PENDING} if found else {SUCCESS})
    expected = {1: "CT", 2: "MR", 3: ""}
    for match in matches:
        assert (match.Modality or "") == expected[studies([match])[0]]
        assert "ModalitiesInStudy" not in match


@pytest.mark.parametrize(
    ("keys", "level", "model"),
    [
        ({"SeriesNumber": "7"}, "STUDY", StudyRootQueryRetrieveInformationModelFind),
        ({"SeriesInstanceUID": ""}, "STUDY", StudyRootQueryRetrieveInformationModelFind),
        ({"StudyComments": "X"}, "STUDY", StudyRootQueryRetrieveInformationModelFind),
        ({"Modality": "US"}, "PATIENT", PatientRootQueryRetrieveInformationModelFind),
        ({"StudyDate": "19000101"}, "PATIENT", PatientRootQueryRetrieveInformationModelFind),
    ],
)
def test_a_key_that_is_not_matched_is_told(
    archive: ServedArchive, keys: dict[str, str], level: str, model: Any
) -> None:
    statuses, matches = find(archive, {"PatientID": ""} | keys, level, model)
    assert statuses == {UNSUPPORTED}
    assert sorted(match.PatientID for match in matches) == ["P1", "P2", "P3"]
    (key,) = keys
    assert all(key not in match for match in matches)


@pytest.mark.parametrize(
    "keys",
    [
        {"SeriesInstanceUID": f"{ROOT}.1.1"},
        {"SOPInstanceUID": f"{ROOT}.1.1.1"},
        {"PatientID": "\\"},
        {"PatientName": "\\\\"},
        {"StudyInstanceUID": "\\"},
        {"AccessionNumber": "*\\"},
        {"StudyDate": "\\"},
    ],
)
def test_what_would_match_everything_is_refused(
    archive: ServedArchive, keys: dict[str, str]
) -> None:
    assert find(archive, keys) == ({DOES_NOT_MATCH}, [])


def test_findscu_asks_for_a_modality_of_studies(archive: ServedArchive) -> None:
    def asked(*keys: str) -> str:
        words = [word for key in keys for word in ("-k", key)]
        return run(
            "findscu", "-v", "-S", "-aec", "ISOCENTER", "127.0.0.1", archive.port,
            "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", *words,
        ).stdout  # fmt: skip

    text = asked("Modality=MR")
    assert [study for study in (1, 2, 3) if f"{ROOT}.{study}]" in text] == [2]
    assert "(Pending)" in text
    text = asked("SeriesDescription=X")
    assert "Pending: WarningUnsupportedOptionalKeys" in text, text
    assert "DataSetDoesNotMatchSOPClass" in asked(f"SeriesInstanceUID={ROOT}.1.1")
    assert "DataSetDoesNotMatchSOPClass" in asked("PatientID=\\")
