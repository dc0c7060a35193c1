"""Patients who may be one person, in the API and on pages."""

from __future__ import annotations

import pytest

from isocenter.services.archive.reconciled import PatientReconciled
from isocenter.services.errors import StorageError
from isocenter.storage.database.reconciliation import DatabaseReconciliation
from services.integration.ai.ai_world import ct_image, keep
from services.web.rest.asking import AS_PROGRAM, ask, refused
from services.web.signed_in import Site

CONFLICTS = "/patient-conflicts"
BOTH = {"patient_id": "P1", "other_patient_id": "P2", "reason": "registered twice"}


async def two_records(site: Site) -> None:
    """Three patients of one name and birth date."""
    for number, patient_id in enumerate(("P1", "P2", "P3"), 1):
        study = f"1.2.826.0.1.3680043.10.{number}"
        image = ct_image(1, study=study, series=f"{study}.1", PatientID=patient_id)
        await keep(site.parts.archive, image)


async def listed(site: Site, query: str = "") -> list[tuple[str, str]]:
    page = (await ask(site, "GET", CONFLICTS + query)).json()
    return [(one["one"]["patient_id"], one["other"]["patient_id"]) for one in page["data"]]


async def test_conflicts_are_settled_and_the_trail_is_told(site: Site) -> None:
    await two_records(site)
    assert await listed(site) == [("P1", "P2"), ("P1", "P3"), ("P2", "P3")]
    page = (await ask(site, "GET", f"{CONFLICTS}?limit=2")).json()
    after = page["pagination"]["next"]
    assert await listed(site, f"?after={after}") == [("P2", "P3")]
    assert (await ask(site, "POST", "/patient-links", BOTH)).json() == {"is_new": True}
    assert (await ask(site, "POST", "/patient-links", BOTH)).json() == {"is_new": False}
    apart = BOTH | {"other_patient_id": "P3", "reason": "twins"}
    assert (await ask(site, "POST", f"{CONFLICTS}/dismiss", apart)).json() == {"is_new": True}
    assert await listed(site) == [("P2", "P3")]
    assert (await ask(site, "POST", "/patient-links/remove", BOTH)).json() == {"is_new": True}
    assert await listed(site) == [("P1", "P2"), ("P2", "P3")]
    told = [one for one in site.told if isinstance(one, PatientReconciled)]
    assert [(one.kind, one.outcome, one.message) for one in told] == [
        ("link", "done", "by hand: registered twice"),
        ("link", "nothing to do", "by hand: registered twice"),
        ("tell apart", "done", "by hand: twins"),
        ("unlink", "done", "by hand: registered twice"),
    ]
    attempts = (await ask(site, "GET", "/reconciliation")).json()["data"]
    assert [one["what"] for one in attempts] == ["unlink", "tell apart", "link", "link"]


async def test_what_cannot_be_is_refused(site: Site) -> None:
    for change in (
        {"patient_id": ""},
        {"other_patient_id": "P1"},
        {"reason": ""},
        {"reason": "a\nb"},
    ):
        assert await refused(site, "POST", "/patient-links", BOTH | change) == (
            400, "INVALID_REQUEST",
        )  # fmt: skip


async def test_who_is_linked_is_not_told_apart(site: Site) -> None:
    assert (await ask(site, "POST", "/patient-links", BOTH)).json() == {"is_new": True}
    answer = await refused(site, "POST", f"{CONFLICTS}/dismiss", BOTH)
    assert answer == (400, "INVALID_REQUEST")
    await ask(site, "POST", "/patient-links/remove", BOTH)
    assert (await ask(site, "POST", f"{CONFLICTS}/dismiss", BOTH)).json() == {"is_new": True}


async def test_the_trail_is_told_though_the_attempt_cannot_be_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*values: object) -> int:
        raise StorageError("the power failed")

    monkeypatch.setattr(DatabaseReconciliation, "note", fail)
    assert (await refused(site, "POST", "/patient-links", BOTH))[0] == 503
    told = [one for one in site.told if isinstance(one, PatientReconciled)]
    assert [(one.kind, one.outcome) for one in told] == [("link", "done")]


async def test_the_page_leads_to_the_preview_of_a_merge(site: Site) -> None:
    await two_records(site)
    headers = AS_PROGRAM | {"origin": site.root, "accept": "text/html"}
    page = await site.client.get("/patients/conflicts", headers=headers)
    assert page.status_code == 200
    address = "/patients/merge?patient=P1&amp;issuer=&amp;into=P2&amp;into_issuer="
    assert address in page.text
    form = await site.client.get(address.replace("&amp;", "&"), headers=headers)
    assert 'name="into" value="P2"' in form.text
    preview = await site.client.post(
        "/patients/merge", data={"patient": "P1", "into": "P2"}, headers=headers
    )
    assert "Merge these patients?" in preview.text
    for path, other in (("/patients/link", "P2"), ("/patients/tell-apart", "P3")):
        answer = await site.client.post(
            path, data={"patient": "P1", "other": other, "reason": "why"}, headers=headers
        )
        assert answer.status_code == 303
    page = await site.client.get("/patients/conflicts", headers=headers)
    assert address not in page.text
    assert page.text.count("They are two") == 1
    wrong = await site.client.post(
        "/patients/link", data={"patient": "P1", "other": "P1", "reason": "w"}, headers=headers
    )
    assert wrong.status_code == 400


async def test_who_is_told_apart_and_linked_by_others_is_shown(site: Site) -> None:
    around = [BOTH | {"patient_id": each, "other_patient_id": "P3"} for each in ("P1", "P2")]
    for body in (BOTH, *around):
        assert (await ask(site, "POST", "/patient-links", body)).json() == {"is_new": True}
    assert (await ask(site, "GET", "/patient-contradictions")).json() == {"contradictions": []}
    assert (await ask(site, "POST", "/patient-links/remove", BOTH)).json() == {"is_new": True}
    (found,) = (await ask(site, "GET", "/patient-contradictions")).json()["contradictions"]
    assert (found["patient_id"], found["other_patient_id"]) == ("P1", "P2")
    assert [(one["patient_id"], one["other_patient_id"]) for one in found["links"]] == [
        ("P1", "P3"), ("P2", "P3"),
    ]  # fmt: skip
    answer = await site.client.post(
        f"/api/v1{CONFLICTS}/dismiss",
        json=BOTH | {"other_patient_id": "P2"},
        headers=AS_PROGRAM | {"origin": site.root},
    )
    assert "linked by way of others" in answer.text
    headers = AS_PROGRAM | {"origin": site.root, "accept": "text/html"}
    page = await site.client.get("/patients/conflicts", headers=headers)
    assert page.text.count("Remove this link") == 2
    removed = await site.client.post(
        "/patients/unlink", data={"patient": "P2", "other": "P3", "reason": "w"}, headers=headers
    )
    assert removed.status_code == 303
    assert (await ask(site, "GET", "/patient-contradictions")).json() == {"contradictions": []}
    refused_link = await refused(site, "POST", "/patient-links", around[1])
    assert refused_link == (400, "INVALID_REQUEST")
