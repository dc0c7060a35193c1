"""Callers of a project of de-identification over the web: nothing that they get is an original."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest

from isocenter.services.archive.deidentification.answers import AnswerRules
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.dicom.deidentification.deidentifier import Deidentifier
from isocenter.services.dicom.deidentification.options import Option
from isocenter.services.dicom.deidentification.profile import Profile
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.security.access.recipients import Recipients
from isocenter.services.web.deidentified_answers import is_for_projects
from isocenter.services.web.dicomweb.retrieve import wado_uri
from isocenter.services.web.principal import PUBLIC
from services.web.rest.images import image, put
from services.web.signed_in import ALICE, Site, opened
from services.web.ui.people import PLACES
from support.deidentification import KEY

#: What the answers must not say, in any encoding that they are in.
WORDS = ("quixotebaum", "zenobia", "zq-471100", "19430912", "acc998877", "fillgrave", "20260102",
         "seldwyla")  # fmt: skip
STUDY, SERIES = "1.2.826.99.7", "1.2.826.99.7.1"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
SR = "1.2.840.10008.5.1.4.1.1.88.11"
TRIAL = Project(
    name="trial",
    profile=Profile(options=frozenset([Option.MODIFIED_DATES, Option.DESCRIPTORS])),
    roles=("Research",),
    addresses=("10.7.0.0/16",),
    destinations=("TRIAL",),
)
OTHER = Project(name="other", roles=("Teaching",))
JSON = {"accept": "application/dicom+json"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    people = [
        replace(ALICE, name="researcher", roles=("Research",)),
        replace(ALICE, name="both", roles=("Research", "Teaching")),
        replace(ALICE, name="doctor", roles=("Doctor",)),
    ]
    projects = (TRIAL, OTHER)
    async with (
        CodecPool(PoolLimits(workers=1)) as pool,
        opened(
            tmp_path,
            more=people,
            roles=dict.fromkeys(("Research", "Teaching", "Doctor"), ALL_PERMISSIONS),
            recipients=Recipients(projects),
            pool=pool,
            tells_requests=True,
        ) as found,
    ):
        archive = found.parts.archive
        archive.deidentification = Deidentification(
            projects, {"trial": KEY, "other": KEY}, found.parts.stores.deidentification, pool
        )
        await put(archive, *(_image(number) for number in (1, 2)))
        yield found


def _image(number: int, **values: Any) -> Any:
    return image(
        number,
        study=STUDY,
        series=SERIES,
        PatientName="Quixotebaum^Zenobia",
        PatientID="ZQ-471100",
        PatientBirthDate="19430912",
        AccessionNumber="ACC998877",
        ReferringPhysicianName="Fillgrave^Otto",
        InstitutionName="Hospital Seldwyla",
        StudyDescription="CT of Zenobia Quixotebaum",
        SeriesDescription="Thorax for Dr Fillgrave",
        PatientComments="neighbour of Zenobia",
        **values,
    )


def uid(number: int) -> str:
    return f"{SERIES}.{number}"


async def as_researcher(site: Site) -> dict[str, str]:
    return await site.token(user="researcher")


def said_of_patient(answer: httpx.Response) -> Sequence[str]:
    """Words of the patient, and UIDs of originals, in all bytes of an answer and its header."""
    raw = answer.content + repr(answer.headers.multi_items()).encode()
    raw = raw.replace(str(answer.request.url).encode(), b"")
    text = raw.replace(b"\0", b"").decode("latin-1").lower()
    found = [word for word in WORDS if word in text]
    return found + re.findall(rf"(?<![\d.]){re.escape(STUDY)}(?:\.1(?:\.\d)?)?(?![\d.])", text)


async def search(site: Site, path: str, headers: Mapping[str, str], **keys: str) -> Any:
    answer = await site.client.get(f"/dicomweb{path}", headers={**headers, **JSON}, params=keys)
    assert answer.status_code == 200, answer.text
    return answer.json()


def value(item: Any, tag: str) -> Any:
    return (item[tag].get("Value") or [None])[0]


async def test_no_route_gives_originals(site: Site) -> None:
    """Each route of the server, by the original UIDs and by the pseudonyms."""
    headers = await as_researcher(site)
    (study,) = await search(site, "/studies", headers)
    made = value(study, "0020000D")
    (series,) = await search(site, f"/studies/{made}/series", headers)
    instance = (await search(site, f"/studies/{made}/instances", headers))[0]
    pseudonyms = {"study": made, "series": value(series, "0020000E"),
                  "instance": value(instance, "00080018"), "frames": "1",
                  "path": "7FE00010"}  # fmt: skip
    originals = {"study": STUDY, "series": SERIES, "instance": uid(1), "frames": "1",
                 "path": "7FE00010"}  # fmt: skip
    answered: dict[str, set[int]] = {}
    for route in site.application_routes:
        if route.needs == PUBLIC:
            continue
        for places in (originals, pseudonyms):
            path = re.sub(
                r"\{([a-z_]+)(?:\.\.\.)?\}",
                lambda each, places=places: places.get(each[1]) or PLACES.get(each[1], "0"),
                route.path,
            )
            more = {}
            if path == "/dicomweb/wado":
                more = {"requestType": "WADO", "objectUID": places["instance"]}
            answer = await site.client.request(
                route.method, path, params=more, headers={**headers, "accept": "*/*"}
            )
            assert not said_of_patient(answer), (route.path, answer.status_code)
            assert answer.status_code != 500, route.path
            answered.setdefault(f"{route.method} {route.path}", set()).add(answer.status_code)
            if not is_for_projects(route.handler):
                assert answer.status_code == 403, (route.path, answer.text)
    given = {name for name, statuses in answered.items() if 200 in statuses}
    assert {
        "GET /dicomweb/studies", "GET /dicomweb/studies/{study}",
        "GET /dicomweb/studies/{study}/metadata", "GET /dicomweb/studies/{study}/rendered",
        "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}",
        "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/thumbnail",
        "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
        "GET /dicomweb/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path...}",
        "GET /dicomweb/wado",
    } <= given  # fmt: skip


async def test_the_same_routes_give_others_what_is_stored(site: Site) -> None:
    """The words are really there: what the test before looks for, it would find."""
    answer = await site.client.get(
        f"/dicomweb/studies/{STUDY}/metadata",
        headers={**await site.token(user="doctor"), **JSON},
    )
    assert set(WORDS) <= set(said_of_patient(answer))


async def test_answers_objects_and_metadata_agree(site: Site) -> None:
    headers = await as_researcher(site)
    (study,) = await search(site, "/studies", headers, includefield="all")
    made = value(study, "0020000D")
    metadata = await search(site, f"/studies/{made}/metadata", headers)
    answer = await site.client.get(
        f"/dicomweb/studies/{made}/series/{value(metadata[0], '0020000E')}/instances/"
        f"{value(metadata[0], '00080018')}",
        headers={**headers, "accept": "application/dicom"},
    )
    found = pydicom.dcmread(io.BytesIO(answer.content))
    assert found.StudyInstanceUID == made == value(metadata[0], "0020000D")
    assert found.PatientID == value(study, "00100020") == value(metadata[0], "00100020")
    assert found.StudyDate == value(study, "00080020") == value(metadata[0], "00080020")
    assert found.SOPInstanceUID == value(metadata[0], "00080018")
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID
    assert found.PatientIdentityRemoved == "YES"
    # What an object says in part only, an answer does not say at all.
    assert not value(study, "00081030")


async def test_searches_compare_pseudonyms_only(site: Site) -> None:
    """To find a patient by the name would say whose the pseudonym is."""
    headers = await as_researcher(site)
    (study,) = await search(site, "/studies", headers)
    shown = {"PatientID": value(study, "00100020"), "StudyDate": value(study, "00080020"),
             "StudyInstanceUID": value(study, "0020000D"), "ModalitiesInStudy": "CT",
             "PatientName": "ANONYMOUS*"}  # fmt: skip
    for key, text in shown.items():
        assert len(await search(site, "/studies", headers, **{key: text})) == 1, key
    hidden = {"PatientID": "ZQ-471100", "StudyDate": "20260102", "StudyInstanceUID": STUDY,
              "PatientName": "Quixote*", "AccessionNumber": "ACC998877",
              "StudyDescription": "*Zenobia*", "PatientBirthDate": "19430912",
              "ReferringPhysicianName": "Fillgrave*"}  # fmt: skip
    for key, text in hidden.items():
        assert not await search(site, "/studies", headers, **{key: text}), key
    pages = [
        await search(site, "/instances", headers, PatientName="ANON*", limit="1", offset=str(at))
        for at in range(3)
    ]
    assert [len(page) for page in pages] == [1, 1, 0]
    assert pages[0] != pages[1]


async def test_what_cannot_be_deidentified_is_refused(site: Site) -> None:
    await put(site.parts.archive, _image(9, SOPClassUID=PDF, EncapsulatedDocument=b"%PDF Zenobia",
              MIMETypeOfEncapsulatedDocument="application/pdf"))  # fmt: skip
    headers = await as_researcher(site)
    found = await search(site, "/instances", headers, SOPClassUID=PDF)
    (made,) = found
    path = (
        f"/dicomweb/studies/{value(made, '0020000D')}/series/{value(made, '0020000E')}"
        f"/instances/{value(made, '00080018')}"
    )
    for below in ("", "/metadata", "/rendered", "/frames/1", "/bulkdata/00420011"):
        answer = await site.client.get(path + below, headers={**headers, "accept": "*/*"})
        assert answer.status_code == 403, (below, answer.text)
        assert not said_of_patient(answer)


async def test_what_cannot_be_told_hides_nothing_behind_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that is short would be the last one for whoever asks page by page."""
    applied = AnswerRules.applied

    def failing(rules: AnswerRules, match: Mapping[int, str], made: Deidentifier) -> dict[int, str]:
        if match[0x00080018] == uid(1):
            raise ValueError(match[0x00100010])
        return applied(rules, match, made)

    monkeypatch.setattr(AnswerRules, "applied", failing)
    headers = await as_researcher(site)
    (found,) = await search(site, "/instances", headers, limit="1")
    assert value(found, "00200013") == 2
    assert len(await search(site, "/instances", headers)) == 1
    assert "1 matches are not told: ValueError" in caplog.text


async def test_what_cannot_be_deidentified_is_refused_by_uri_as_well(site: Site) -> None:
    await put(site.parts.archive, _image(9, SOPClassUID=PDF, EncapsulatedDocument=b"%PDF Zenobia",
              MIMETypeOfEncapsulatedDocument="application/pdf"))  # fmt: skip
    headers = await as_researcher(site)
    (made,) = await search(site, "/instances", headers, SOPClassUID=PDF)
    asked = {"requestType": "WADO", "objectUID": value(made, "00080018"),
             "contentType": "application/dicom"}  # fmt: skip
    answer = await site.client.get("/dicomweb/wado", params=asked, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "NOT_DEIDENTIFIED"


async def test_a_report_is_not_held_whatever_its_length(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(site.parts.archive, _image(8, SOPClassUID=SR))
    headers = await as_researcher(site)
    (made,) = await search(site, "/instances", headers, SOPClassUID=SR)
    asked = {"requestType": "WADO", "objectUID": value(made, "00080018"),
             "contentType": "text/plain"}  # fmt: skip
    answer = await site.client.get("/dicomweb/wado", params=asked, headers=headers)
    assert answer.status_code == 200
    monkeypatch.setattr(wado_uri, "_MOST_REPORT", 100)
    answer = await site.client.get("/dicomweb/wado", params=asked, headers=headers)
    assert answer.status_code == 406
    assert answer.json()["error"]["code"] == "NOT_SHOWN"


async def test_who_belongs_to_two_projects_is_given_nothing(site: Site) -> None:
    answer = await site.client.get("/dicomweb/studies", headers=await site.token(user="both"))
    assert answer.status_code == 403


async def test_a_token_with_the_role_is_of_the_project(site: Site) -> None:
    (study,) = await search(site, "/studies", await site.token(roles=("Research",)))
    assert value(study, "0020000D") != STUDY


async def test_a_certificate_of_a_destination_is_of_the_project(site: Site) -> None:
    (study,) = await search(site, "/studies", {"x-certificate": "TRIAL"})
    assert value(study, "0020000D") != STUDY


async def test_a_person_who_is_signed_in_is_of_the_project(site: Site) -> None:
    cookie = await site.cookie("researcher")
    (study,) = await search(site, "/studies", cookie)
    assert value(study, "0020000D") != STUDY
    assert await site.status("/", cookie) == 403
    assert await site.status("/api/v1/auth/me", cookie) == 200


async def test_the_audit_trail_tells_whose_objects_were_read(site: Site) -> None:
    headers = await as_researcher(site)
    (study,) = await search(site, "/studies", headers)
    site.told.clear()
    await search(site, f"/studies/{value(study, '0020000D')}/metadata", headers)
    (read,) = await site.reads()
    assert read.study_instance_uid == STUDY
    assert read.sop_instance_uids == {uid(1), uid(2)}


async def test_what_a_browser_keeps_is_for_those_credentials_alone(site: Site) -> None:
    headers = await as_researcher(site)
    (study,) = await search(site, "/studies", headers)
    path = "/dicomweb/studies/{}/thumbnail".format
    headers |= {"accept": "image/jpeg"}
    answer = await site.client.get(path(value(study, "0020000D")), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "private, no-cache"
    assert {"Accept", "Authorization", "Cookie"} <= set(answer.headers["vary"].split(", "))
    # It says each time whether what is kept may be used, as long as that is so.
    again = {**headers, "if-none-match": answer.headers["etag"]}
    kept = await site.client.get(path(value(study, "0020000D")), headers=again)
    assert (kept.status_code, kept.headers["cache-control"]) == (304, "private, no-cache")
    others = {**await site.token(user="doctor"), "accept": "image/jpeg"}
    doctor = await site.client.get(path(STUDY), headers=others)
    assert doctor.status_code == 200
    assert "max-age" in doctor.headers["cache-control"]
    assert {"Authorization", "Cookie"} <= set(doctor.headers["vary"].split(", "))
