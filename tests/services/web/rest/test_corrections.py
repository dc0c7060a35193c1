"""Corrections by the API: preview, order, list, undo."""

from __future__ import annotations

from typing import Any

import pytest

from isocenter.services.archive.corrections.service import Corrections
from services.archive_support import STUDY, data_set, store, uid
from services.web.rest.asking import ask, refused
from services.web.signed_in import Site

RENAME = {"kind": "correct", "study": STUDY, "changes": {"PatientName": "Right^Name"}}


@pytest.fixture
async def filled(site: Site) -> Site:
    archive = site.parts.archive
    for number in (1, 2):
        await store(archive, number)
    await store(archive, 3, data_set(3, series="1.2.3.5"))
    other = data_set(9, study="1.2.9", series="1.2.9.1", patient_id="P2", patient_name="Two^B")
    await store(archive, 9, other)
    return site


async def worked(site: Site) -> None:
    """What the server does in the background."""
    await Corrections(site.parts.archive, site.parts.stores.corrections).work()


async def names(site: Site) -> dict[str, str]:
    records = await site.parts.archive.index.records([uid(n) for n in (1, 2, 3, 9)])
    return {key: record.attributes[0x00100010] for key, record in records.items()}


async def test_what_is_ordered_is_done_listed_and_undone(filled: Site) -> None:
    preview = (await ask(filled, "POST", "/corrections/preview", RENAME)).json()
    assert (preview["instances"], preview["series"], preview["changed"]) == (3, 2, 3)
    assert preview["changes"] == [
        {
            "tag": "00100010",
            "keyword": "PatientName",
            "before": [{"value": "Bäcker^Anna", "instances": 3}],
            "after": "Right^Name",
        }
    ]
    answer = await ask(filled, "POST", "/corrections", {**RENAME, "reason": "misspelt"})
    assert (answer.status_code, answer.headers["location"]) == (202, "/api/v1/corrections/1")
    assert (answer.json()["instances"], answer.json()["corrected"]) == (3, 0)
    await worked(filled)
    one = (await ask(filled, "GET", "/corrections/1")).json()
    assert (one["corrected"], one["by"], one["reason"]) == (3, "program", "misspelt")
    assert set((await names(filled)).values()) == {"Right^Name", "Two^B"}
    again = await refused(filled, "POST", "/corrections", {**RENAME, "reason": "again"})
    assert again == (409, "NOTHING_TO_CORRECT")
    answer = await ask(filled, "POST", "/corrections/1/undo", {"reason": "it was right"})
    assert (answer.status_code, answer.json()["undo_reason"]) == (202, "it was right")
    await worked(filled)
    assert set((await names(filled)).values()) == {"Bäcker^Anna", "Two^B"}
    assert (await ask(filled, "POST", "/corrections/1/retry")).status_code == 202
    for action in ("1/undo", "7/undo", "x/undo"):
        assert await refused(filled, "POST", f"/corrections/{action}", {"reason": "x"}) == (
            404,
            "NOT_FOUND",
        )


async def test_all_kinds_are_ordered_and_paged(filled: Site) -> None:
    first = {"id": "P1"}
    for wanted in (
        {"kind": "split study", "study": STUDY, "series": ["1.2.3.5"], "into_study": "1.2.8"},
        {"kind": "move series", "study": "1.2.9", "series": ["1.2.9.1"], "into_study": "1.2.8"},
        {"kind": "merge studies", "study": "1.2.8", "into_study": STUDY},
        {"kind": "correct", "patient": first, "changes": {"00100020": "P2", "PatientSex": None}},
        {"kind": "correct", "study": STUDY, "series": ["1.2.3.5"], "changes": {"Modality": "MR"}},
        {"kind": "correct", "study": STUDY, "changes": {"PatientID": "P1"}},
    ):
        answer = await ask(filled, "POST", "/corrections", {**wanted, "reason": "a test"})
        assert answer.status_code == 202, answer.text
        await worked(filled)
    await store(
        filled.parts.archive, 10, data_set(10, study="1.7", series="1.7.1", patient_id="P3")
    )
    for wanted in (
        {"kind": "merge patients", "patient": {"id": "P3"}, "into_patient": first},
        {"kind": "correct", "study": "1.7", "changes": {"PatientID": "P4"}},
        {"kind": "move study", "study": STUDY, "into_patient": {"id": "P4"}},
    ):
        answer = await ask(filled, "POST", "/corrections", {**wanted, "reason": "a test"})
        assert answer.status_code == 202, answer.text
        await worked(filled)
    assert (await filled.parts.archive.index.statistics()).patients == 1
    page = (await ask(filled, "GET", "/corrections?limit=4")).json()
    assert [one["number"] for one in page["data"]] == [9, 8, 7, 6]
    after = page["pagination"]["next"]
    page = (await ask(filled, "GET", f"/corrections?limit=5&after={after}")).json()
    assert [one["number"] for one in page["data"]] == [5, 4, 3, 2, 1]
    assert not page["pagination"].get("next")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({**RENAME}, "REASON_MISSING"),
        ({**RENAME, "reason": "a\nb"}, "REASON_MISSING"),
        ({**RENAME, "reason": "x", "changes": {}}, "CANNOT_BE_CORRECTED"),
        ({**RENAME, "reason": "x", "changes": {"NoSuch": "1"}}, "INVALID_REQUEST"),
        ({**RENAME, "reason": "x", "changes": {"Rows": "1"}}, "CANNOT_BE_CORRECTED"),
        ({**RENAME, "reason": "x", "study": ""}, "INVALID_REQUEST"),
        ({"kind": "merge patients", "reason": "x"}, "INVALID_REQUEST"),
        ({"kind": "merge patients", "reason": "x", "patient": {"id": ""}}, "INVALID_REQUEST"),
        ({"kind": "nonsense", "reason": "x"}, "INVALID_REQUEST"),
        ({"kind": "move series", "study": STUDY, "reason": "x"}, "CANNOT_BE_CORRECTED"),
    ],
)
async def test_what_cannot_be_is_told_and_changes_nothing(
    filled: Site, body: dict[str, Any], code: str
) -> None:
    assert await refused(filled, "POST", "/corrections", body) == (400, code)
    assert (await ask(filled, "GET", "/corrections")).json()["data"] == []


async def test_of_what_is_not_there_nothing_is_corrected(filled: Site) -> None:
    body = {**RENAME, "study": "1.2.99", "reason": "x"}
    assert await refused(filled, "POST", "/corrections", body) == (404, "NOT_FOUND")
