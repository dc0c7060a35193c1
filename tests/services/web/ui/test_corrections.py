"""Corrections on pages: a preview, a reason, what is found afterwards, and taking it back."""

from __future__ import annotations

import re
from html import unescape

import pytest

from services.archive_support import STUDY, data_set, store, uid
from services.web.signed_in import Site
from services.web.ui.people import post, text_of

PATH = f"/studies/{STUDY}/correct"


def hidden(text: str) -> dict[str, str]:
    """What the form below a preview sends."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text)
    return {name: unescape(value) for name, value in found}


async def said(site: Site, tag: int, number: int = 1) -> str:
    records = await site.parts.archive.index.records([uid(number)])
    return records[uid(number)].attributes.get(tag, "")


async def test_a_name_is_corrected_after_a_preview_and_taken_back(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    assert f'href="{PATH}"' in await text_of(site, cookie, f"/studies/{STUDY}")
    form = await text_of(site, cookie, PATH)
    assert 'name="PatientName" value="Bäcker^Anna"' in form
    was = dict(re.findall(r'name="([A-Z]\w+)" value="([^"]*)"', form))
    fields = was | {"kind": "correct", "PatientName": "Right^<b>", "StudyDate": "2024-03-01"}
    answer = await post(site, cookie, PATH, **fields)
    assert answer.status_code == 200
    assert "<td>Bäcker^Anna</td>" in answer.text
    assert "Right^&lt;b&gt;" in answer.text
    assert "20240301" in answer.text
    assert "PatientID" not in answer.text.partition("<tbody>")[2].partition("</tbody>")[0]
    # Nothing has happened yet, and nothing happens without a reason.
    assert await said(site, 0x00100010) == "Bäcker^Anna"
    assert (await post(site, cookie, PATH, **hidden(answer.text))).status_code == 400
    assert await said(site, 0x00100010) == "Bäcker^Anna"
    answer = await post(site, cookie, PATH, **hidden(answer.text), reason="mis<i>spelt")
    assert (answer.status_code, answer.headers["location"]) == (303, "/corrections")
    assert await said(site, 0x00100010) == "Right^<b>"
    assert await said(site, 0x00080020) == "20240301"
    rows = await text_of(site, cookie, "/corrections")
    assert "3 of 3 corrected" in rows
    assert "mis&lt;i&gt;spelt" in rows
    assert "a-radiologist" in rows
    assert (await post(site, cookie, "/corrections/1/undo")).status_code == 400
    answer = await post(site, cookie, "/corrections/1/undo", reason="it was right")
    assert answer.headers["location"] == "/corrections"
    assert await said(site, 0x00100010) == "Bäcker^Anna"
    assert "it was right" in await text_of(site, cookie, "/corrections")
    for number in ("1", "2", "x", "9" * 30):
        answer = await post(site, cookie, f"/corrections/{number}/undo", reason="again")
        assert answer.status_code == 404


async def test_what_a_form_does_not_speak_of_stays(site: Site) -> None:
    cookie = await site.cookie("a-technologist")
    fields = {"kind": "correct", "step": "apply", "reason": "a test"}
    answer = await post(site, cookie, PATH, PatientName="Right^Name", **fields)
    assert answer.status_code == 303
    assert (await said(site, 0x00100010), await said(site, 0x00100020)) == ("Right^Name", "P1")


async def test_patients_are_merged_after_a_preview(site: Site) -> None:
    other = data_set(9, study="1.2.9", series="1.2.9.1", patient_id="P2", patient_name="Two^B")
    await store(site.parts.archive, 9, other)
    cookie = await site.cookie("a-radiologist")
    assert 'href="/patients/merge?patient=P1&amp;issuer="' in await text_of(
        site, cookie, "/patients"
    )
    assert 'value="P1"' in await text_of(site, cookie, "/patients/merge?patient=P1&issuer=")
    answer = await post(site, cookie, "/patients/merge", patient="P1", into="P2")
    assert answer.status_code == 200
    assert "3 instances" in answer.text
    answer = await post(
        site, cookie, "/patients/merge", **hidden(answer.text), reason="registered twice"
    )
    assert answer.status_code == 303
    assert (await site.parts.archive.index.statistics()).patients == 1
    for patient, into in (("P1", "P2"), ("P2", "P2"), ("P2", "P7"), ("", "P2")):
        answer = await post(site, cookie, "/patients/merge", patient=patient, into=into)
        assert answer.status_code == 400


async def test_series_become_a_study_with_the_uid_of_the_preview(site: Site) -> None:
    await store(site.parts.archive, 4, data_set(4, series="1.2.3.5"))
    cookie = await site.cookie("a-radiologist")
    answer = await post(site, cookie, PATH, kind="move series", series="1.2.3.5", target="")
    assert answer.status_code == 200
    fields = hidden(answer.text)
    assert (await post(site, cookie, PATH, **fields, reason="two")).status_code == 303
    assert await said(site, 0x0020000D, 4) == fields["new_study"]
    answer = await post(
        site, cookie, PATH, kind="merge studies", target=fields["new_study"], step="apply",
        reason="one",
    )  # fmt: skip
    assert answer.status_code == 303
    assert (await site.parts.archive.index.statistics()).studies == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "correct"},
        {"kind": "correct", "PatientBirthDate": "yesterday"},
        {"kind": "move study", "patient": "P7"},
        {"kind": "move study", "patient": ""},
        {"kind": "merge studies", "target": STUDY},
        {"kind": "merge studies", "target": "1.2.99"},
        {"kind": "move series"},
        {"kind": "nonsense"},
        {},
    ],
)
async def test_what_cannot_be_corrected_changes_nothing(site: Site, fields: dict[str, str]) -> None:
    cookie = await site.cookie("a-radiologist")
    answer = await post(site, cookie, PATH, **fields, step="apply", reason="a test")
    assert answer.status_code == 400
    assert not await site.parts.stores.corrections.rows(limit=1)


async def test_of_a_study_that_is_not_there_nothing_is_corrected(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")
    path = "/studies/1.2.99/correct"
    assert (await site.client.get(path, headers=cookie)).status_code == 404
    assert (await post(site, cookie, path, kind="correct", PatientName="A")).status_code == 404
