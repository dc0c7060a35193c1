"""Patients, studies, series and instances in the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isocenter.services.archive.deletion.ports import TrashChoice
from isocenter.services.notices import QueryAnswered
from isocenter.services.web.cursors import cursor
from services.web.rest.images import CT, SERIES, STUDY, image, put, uid
from services.web.signed_in import ALICE, Site, opened

AS_PROGRAM = {"x-certificate": "program"}
RADA = replace(ALICE, name="rada", roles=("Radiologist",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened(tmp_path, more=[RADA], tells_requests=True) as found:
        await put(
            found.parts.archive, image(1), image(2), image(1, series="1.2.3.2", Modality="MR")
        )
        await put(
            found.parts.archive,
            image(1, study="1.2.4", series="1.2.4.1", PatientID="P2", PatientName="Yeti^Yolanda",
                  StudyDate="20260301", AccessionNumber="A7"),
            image(1, study="1.2.5", series="1.2.5.1", PatientID="P2", StudyDate="20251231",
                  PatientName="Xaver^X", IssuerOfPatientID="OTHER"),
        )  # fmt: skip
        yield found


async def get(site: Site, path: str, status: int = 200) -> Any:
    answer = await site.client.get(f"/api/v1{path}", headers=AS_PROGRAM)
    assert answer.status_code == status, answer.text
    return answer.json()


async def names(site: Site, path: str, field: str) -> list[Any]:
    return [one[field] for one in (await get(site, path))["data"]]


async def test_studies_are_listed_the_newest_first(site: Site) -> None:
    found = await get(site, "/studies")
    assert [one["study_instance_uid"] for one in found["data"]] == ["1.2.4", STUDY, "1.2.5"]
    assert found["pagination"] == {"count": 3, "total": 3, "next": None}
    study = found["data"][1]
    assert (study["patient_name"], study["study_date"]) == ("Zenobia^Wanda", "20260102")
    assert (study["modalities_in_study"], study["num_series"], study["num_instances"]) == (
        ["CT", "MR"], 2, 3,
    )  # fmt: skip
    assert await get(site, f"/studies/{STUDY}") == study


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ("patient_name=zen*", [STUDY]),
        ("patient_id=P2", ["1.2.4", "1.2.5"]),
        ("study_uid=1.2.5", ["1.2.5"]),
        ("accession_number=A7", ["1.2.4"]),
        ("modality=MR", [STUDY]),
        ("study_date=2026-01-02", [STUDY]),
        ("study_date_from=20260101", ["1.2.4", STUDY]),
        ("study_date_from=2026-01-01&study_date_to=2026-02-01", [STUDY]),
        ("study_date_to=2026-01-02&patient_id=P2", ["1.2.5"]),
    ],
)
async def test_studies_are_filtered(site: Site, query: str, studies: list[str]) -> None:
    assert await names(site, f"/studies?{query}", "study_instance_uid") == studies


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("study_date=soon", "write a day as 2026-11-30"),
        ("study_date=20260101&study_date_to=20260102", "say one"),
        ("limit=101", "limit is a number"),
        ("after=AAAA", "after is what an earlier page said"),
        ("after=WzFd", "after is of another list"),
        # As they were given out before: how many there were, and which were the last.
        (f"after={cursor((50, '1.2.3', '1.2.4'))}", "after is of another list; begin without it"),
        (f"after={cursor(('PATIENT', 'P1', '', 3))}", "after is of another list"),
        (f"after={cursor(('STUDY', '20260101', 7))}", "after is of another list"),
        (f"after={cursor(('STUDY', '20260101', '', '7'))}", "after is of another list"),
        (f"after={cursor(('STUDY', '20260101', '', 7.5))}", "after is of another list"),
        (f"after={cursor(('STUDY', '20260101', '', 2**63))}", "after is what an earlier page said"),
        (f"after={cursor(('STUDY', chr(0), '', 7))}", "after is what an earlier page said"),
    ],
)
async def test_a_question_that_makes_no_sense_is_told(site: Site, query: str, said: str) -> None:
    assert said in (await get(site, f"/studies?{query}", 400))["detail"]


async def test_patients_with_one_id_are_told_apart(site: Site) -> None:
    found = await get(site, "/patients")
    assert [one["patient_id"] for one in found["data"]] == ["P1", "P2", "P2"]
    assert found["pagination"]["total"] == 3
    assert (await get(site, "/patients/P1"))["patient_name"] == "Zenobia^Wanda"
    assert (await get(site, "/patients/P2", 409))["code"] == "AMBIGUOUS"
    other = await get(site, "/patients/P2?issuer=OTHER")
    assert other["patient_name"] == "Xaver^X"
    assert await get(site, f"/patients/{other['pk']}") == other
    for name in (other["pk"], "P2?issuer=OTHER"):
        path, _, query = name.partition("?")
        studies = await names(site, f"/patients/{path}/studies?{query}", "study_instance_uid")
        assert studies == ["1.2.5"]
    assert await names(site, "/patients?birth_date=1900-01-01", "pk") == []
    assert await names(site, "/patients?patient_name=y*", "patient_id") == ["P2"]
    await get(site, "/patients/P9", 404)


async def test_a_patient_without_an_id_has_a_name(site: Site) -> None:
    await put(
        site.parts.archive,
        image(1, study="1.2.6", series="1.2.6.1", PatientID="", PatientName="Quentin^Q"),
        image(1, study="1.2.7", series="1.2.7.1", PatientID="", PatientName="Ruth^R"),
    )
    (found,) = (await get(site, "/patients?patient_name=Quentin*"))["data"]
    assert found["patient_id"] == ""
    assert await names(site, f"/patients/{found['pk']}/studies", "study_instance_uid") == ["1.2.6"]


async def test_series_and_instances(site: Site) -> None:
    found = await get(site, f"/studies/{STUDY}/series")
    assert [one["series_instance_uid"] for one in found["data"]] == [SERIES, "1.2.3.2"]
    assert found["data"][0]["num_instances"] == 2
    assert await get(site, f"/series/{SERIES}") == found["data"][0]
    instances = (await get(site, f"/series/{SERIES}/instances"))["data"]
    assert [one["sop_instance_uid"] for one in instances] == [uid(1), uid(2)]
    assert (instances[1]["instance_number"], instances[1]["sop_class_uid"]) == (2, CT)
    assert instances[1]["file_size"] > 3000
    assert len((await get(site, f"/studies/{STUDY}/instances"))["data"]) == 3
    for path in ("/studies/1.9", "/studies/1.9/series", "/studies/1.9/instances", "/series/1.9",
                 "/series/1.9/instances"):  # fmt: skip
        assert (await get(site, path, 404))["code"] == "NOT_FOUND"


async def test_a_series_in_two_studies_is_named_with_its_study(site: Site) -> None:
    await put(site.parts.archive, image(9, study="1.2.9", series=SERIES))
    assert (await get(site, f"/series/{SERIES}", 409))["code"] == "AMBIGUOUS"
    found = await get(site, f"/series/{SERIES}?study_uid=1.2.9")
    assert found["num_instances"] == 1


async def test_pages_stay_right_while_studies_come_and_go(site: Site) -> None:
    for number in range(10, 22):
        await put(
            site.parts.archive,
            image(1, study=f"1.3.{number}", series=f"1.3.{number}.1", StudyDate=f"202401{number}"),
        )
    answer = await site.client.get("/api/v1/studies?limit=5", headers=AS_PROGRAM)
    seen = [one["study_instance_uid"] for one in answer.json()["data"]]
    assert "after=" in answer.headers["link"]
    following = answer.json()["pagination"]["next"]
    # A new one stands before all; the last one that was shown goes.
    await put(site.parts.archive, image(1, study="1.9.1", series="1.9.1.1", StudyDate="20270101"))
    await site.parts.archive.remove([f"{seen[-1]}.1.1"])
    while following:
        page = await get(site, f"/studies?limit=5&after={following}")
        seen += [one["study_instance_uid"] for one in page["data"]]
        following = page["pagination"]["next"]
    assert len(seen) == len(set(seen)) == 15
    offset = await names(site, "/studies?limit=2&offset=1", "study_instance_uid")
    assert offset == ["1.2.4", STUDY]


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/patients", "pk"),
        ("/patients/P1/studies", "study_instance_uid"),
        (f"/studies/{STUDY}/series", "series_instance_uid"),
        (f"/studies/{STUDY}/instances", "sop_instance_uid"),
        (f"/series/{SERIES}/instances", "sop_instance_uid"),
    ],
)
async def test_each_list_is_read_page_by_page(site: Site, path: str, key: str) -> None:
    whole = [one[key] for one in (await get(site, path))["data"]]
    seen: list[str] = []
    page = await get(site, f"{path}?limit=1")
    seen += [one[key] for one in page["data"]]
    while following := page["pagination"]["next"]:
        page = await get(site, f"{path}?limit=1&after={following}")
        seen += [one[key] for one in page["data"]]
    assert seen == whole


async def test_a_list_is_a_query_in_the_audit_trail(site: Site) -> None:
    await get(site, "/studies?patient_name=Zen*")
    (asked,) = [one for one in site.told if isinstance(one, QueryAnswered)]
    assert asked.identifier == b"/api/v1/studies?patient_name=Zen*"
    assert asked.matches == 1


# -- Deleting -----------------------------------------------------------------------------


async def test_a_deleted_study_is_in_the_trash_and_in_no_list(site: Site) -> None:
    headers = {**await site.cookie("rada"), "origin": site.root}
    path = f"/api/v1/studies/{STUDY}"
    answer = await site.client.delete(path, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "MISSING_REASON")
    answer = await site.client.delete(f"{path}?reason=sent%20twice", headers=headers)
    assert answer.status_code == 204
    trashed = await site.parts.stores.trash.chosen(TrashChoice(), limit=9)
    assert {(one.reason, one.actor) for one in trashed} == {("sent twice", "rada")}
    await get(site, f"/studies/{STUDY}", 404)
    await get(site, f"/series/{SERIES}", 404)
    await get(site, f"/instances/{uid(1)}/voi-lut", 404)
    await get(site, "/patients/P1", 404)
    assert await names(site, "/studies", "study_instance_uid") == ["1.2.4", "1.2.5"]
    answer = await site.client.delete(f"{path}?reason=x", headers=headers)
    assert answer.status_code == 404
