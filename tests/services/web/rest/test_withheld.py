"""Quarantine, rejection notes, retention, holds and reconciliation in the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isocenter.services.archive.locks.lock import StudyLockedError
from isocenter.services.workflow.reconciliation.values import (
    Attempt,
    AttemptOutcome,
    Identifier,
    PatientLink,
    ReconciliationKind,
)
from services.archive_support import STUDY, store, uid
from services.web.rest.asking import AS_PROGRAM, ask, refused
from services.web.signed_in import Site, opened


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path) as found:
        for number in (1, 2):
            await store(found.parts.archive, number)
        yield found


async def instances(site: Site) -> int:
    return (await site.parts.archive.index.statistics()).instances


async def test_a_study_is_withheld_released_and_deleted(site: Site) -> None:
    body = {"study_instance_uid": STUDY, "reason": "whose?"}
    answer = await ask(site, "POST", "/quarantine", body)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["instances"], shown["reason"], shown["by"]) == (2, "whose?", "program")
    assert await instances(site) == 0
    assert (await ask(site, "GET", "/quarantine")).json() == {"quarantines": [shown]}
    path = f"/quarantine/{shown['id']}"
    found = (await ask(site, "GET", path)).json()
    assert [one["sop_instance_uid"] for one in found["objects"]] == [uid(1), uid(2)]
    answer = await ask(site, "POST", f"{path}/release")
    assert answer.json() == {"instances": 2, "left": 0}
    assert await refused(site, "POST", f"{path}/release") == (404, "NOT_FOUND")
    assert await refused(site, "GET", path) == (404, "NOT_FOUND")
    again = (await ask(site, "POST", "/quarantine", body)).json()["id"]
    path = f"/quarantine/{again}"
    assert await refused(site, "POST", f"{path}/delete", {"reason": " "}) == (
        400, "INVALID_REQUEST",
    )  # fmt: skip
    assert (await ask(site, "POST", f"{path}/delete", {"reason": "x"})).status_code == 204
    assert await refused(site, "POST", f"{path}/delete", {"reason": "x"}) == (404, "NOT_FOUND")
    assert await instances(site) == 0


async def test_a_study_that_is_not_there_is_neither_withheld_nor_rejected(site: Site) -> None:
    body = {"study_instance_uid": "1.2.99", "reason": "x"}
    assert await refused(site, "POST", "/quarantine", body) == (404, "NOT_FOUND")
    body["cause"] = "quality"
    assert await refused(site, "POST", "/rejection-notes", body) == (404, "NOT_FOUND")
    body = {"study_instance_uid": STUDY, "reason": "two\nlines"}
    assert await refused(site, "POST", "/quarantine", body) == (400, "INVALID_REQUEST")


async def test_a_study_is_rejected_by_a_note_that_is_taken_back(site: Site) -> None:
    body = {"study_instance_uid": STUDY, "cause": "worklist", "reason": "wrong one"}
    answer = await ask(site, "POST", "/rejection-notes", body)
    assert answer.status_code == 201, answer.text
    (note,) = answer.json()["notes"]
    (shown,) = (await ask(site, "GET", "/rejection-notes")).json()["notes"]
    assert (shown["sop_instance_uid"], shown["code"], shown["instances"], shown["by"]) == (
        note, "113038", 2, "program",
    )  # fmt: skip
    assert await instances(site) == 1
    body["cause"] = "fun"
    assert await refused(site, "POST", "/rejection-notes", body) == (400, "INVALID_REQUEST")
    path = f"/rejection-notes/{note}/revoke"
    answer = await ask(site, "POST", path, {"reason": "right one"})
    assert answer.json() == {"instances": 2, "left": 0}
    assert await refused(site, "POST", path, {"reason": "again"}) == (404, "NOT_FOUND")
    assert await instances(site) == 2


async def test_rules_of_retention_and_holds(site: Site) -> None:
    (rule,) = (await ask(site, "GET", "/retention/rules")).json()["rules"]
    assert (rule["number"], rule["study_days"]) == (1, 365)
    found = (await ask(site, "GET", "/retention/rules/1/dry-run")).json()
    assert (found["studies"], found["instances"], found["is_cut"]) == (1, 2, False)
    assert found["details"][0]["study_instance_uid"] == STUDY
    assert (await refused(site, "GET", "/retention/rules/2/dry-run"))[0] == 404
    path = f"/holds/{STUDY}"
    assert (await ask(site, "PUT", path, {"reason": "case 17"})).status_code == 204
    assert await refused(site, "PUT", path, {"reason": "case 18"}) == (409, "CONFLICT")
    (hold,) = (await ask(site, "GET", "/holds")).json()["holds"]
    assert (hold["study_instance_uid"], hold["reason"], hold["by"], hold["is_here"]) == (
        STUDY, "case 17", "program", True,
    )  # fmt: skip
    assert (await ask(site, "GET", "/retention/rules/1/dry-run")).json()["studies"] == 0
    assert (await ask(site, "DELETE", path)).status_code == 204
    assert await refused(site, "DELETE", path) == (404, "NOT_FOUND")
    assert await refused(site, "PUT", "/holds/a%5Cb", {"reason": "x"}) == (400, "INVALID_REQUEST")


async def test_locks_are_shown_and_released(site: Site) -> None:
    locks = site.parts.archive.locks
    assert (await ask(site, "GET", "/locks")).json() == {"locks": []}
    reason = {"reason": "it hangs"}
    release = f"/locks/{STUDY}/release"
    assert await refused(site, "POST", release, reason) == (404, "NOT_FOUND")
    async with locks.exclusive(STUDY, "alice", "deletion") as held:
        (lock,) = (await ask(site, "GET", "/locks")).json()["locks"]
        assert (lock["study_instance_uid"], lock["kind"], lock["by"], lock["reason"]) == (
            STUDY, "exclusive", "alice", "deletion",
        )  # fmt: skip
        locks.wait_seconds = 0.0
        path = f"/dicomweb/studies/{STUDY}"
        headers = {**AS_PROGRAM, "accept": 'multipart/related; type="application/dicom"'}
        answer = await site.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "alice" not in answer.text, "whoever reads need not know who it is"
        assert await refused(site, "POST", release, {"reason": ""}) == (400, "INVALID_REQUEST")
        assert (await ask(site, "POST", release, reason)).status_code == 204
        assert (await ask(site, "GET", "/locks")).json() == {"locks": []}
        with pytest.raises(StudyLockedError):
            await held.confirm()
    answer = await site.client.get(path, headers=headers)
    assert answer.status_code == 200
    async with locks.exclusive(STUDY, "nobody reads it any more"):
        pass


async def test_attempts_and_links_are_listed_page_by_page(site: Site) -> None:
    book = site.parts.stores.reconciliation
    one, other = Identifier("P1", "HOSPITAL"), Identifier("P2")
    for at in range(3):
        await book.note(
            Attempt(
                kind=ReconciliationKind.MERGE,
                patient=one,
                other=other,
                actor="ADT",
                message="ADT^A40 1",
                at=float(at),
                outcome=AttemptOutcome.DONE,
                corrections=(4,),
            )
        )
    await book.link(PatientLink(one=one, other=other, actor="ADT", at=1.0))
    first = (await ask(site, "GET", "/reconciliation?limit=2")).json()
    numbers = [row["number"] for row in first["data"]]
    assert first["data"][0]["corrections"] == [4]
    rest = await ask(site, "GET", f"/reconciliation?limit=2&after={first['pagination']['next']}")
    numbers += [row["number"] for row in rest.json()["data"]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == 3
    assert (await ask(site, "GET", "/reconciliation?patient_id=P9")).json()["data"] == []
    (link,) = (await ask(site, "GET", "/patient-links?patient_id=P2")).json()["links"]
    assert (link["patient_id"], link["other_patient_id"]) == ("P1", "P2")
