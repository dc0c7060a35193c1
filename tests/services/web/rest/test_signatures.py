"""Digital signatures of stored objects: in the API, on the page, and by whom they are."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import pydicom
import pytest
from pydicom.dataset import Dataset

from isocenter.services.archive.signature_check import SignatureCheck, TrustFiles, is_signed
from isocenter.services.cli import main
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.verification import SignatureState
from services.web.rest.images import SERIES, STUDY, image, put, uid
from services.web.signed_in import Site, opened
from services.web.ui.people import WHO
from support.signers import Issued, issue

AS_PROGRAM = {"x-certificate": "program"}


@pytest.fixture
def authority() -> Issued:
    return issue("Authority", authority=True)


@pytest.fixture
async def site(tmp_path: Path, authority: Issued) -> AsyncIterator[Site]:
    """One object that is signed, one that was changed since, and one without a signature."""
    key, certificate = issue("Signer", by=authority).write(tmp_path, "signer")
    signed: list[Dataset] = []
    for number in (1, 2):
        path = tmp_path / f"{number}.dcm"
        image(number).save_as(path, enforce_file_format=True)
        words = ["dcmsign", str(path), "-nb", "--key", str(key), "--cert", str(certificate)]
        assert main(words) == 0
        signed.append(pydicom.dcmread(path))
    signed[1].StudyDescription = "another one"
    async with opened(tmp_path / "site", more=(WHO["Radiologist"],)) as found:
        await put(found.parts.archive, *signed, image(3))
        yield found


async def test_signatures_are_verified_when_they_are_asked_for(site: Site) -> None:
    async def ask(number: int, status: int = 200) -> list[dict[str, object]]:
        path = f"/api/v1/instances/{uid(number)}/signatures"
        answer = await site.client.get(path, headers=AS_PROGRAM)
        assert answer.status_code == status
        found: list[dict[str, object]] = answer.json().get("signatures", [])
        return found

    (one,) = await ask(1)
    assert (one["state"], one["signer"], one["organization"]) == ("valid", "Signer", "Hospital")
    assert "creator" in one["profiles"]  # type: ignore[operator]  # a list of texts
    (two,) = await ask(2)
    assert two["state"] == "invalid"
    assert await ask(3) == []
    await ask(9, 404)


async def test_whom_they_are_of_is_asked_where_somebody_is_trusted(
    site: Site, tmp_path: Path, authority: Issued
) -> None:
    archive = site.parts.archive
    stored = (await archive.index.get([uid(1)]))[uid(1)]
    ca = authority.write(tmp_path, "ca")[1]
    (one,) = await SignatureCheck(archive, TrustFiles(trusted=[ca])).verify(stored)
    assert one.state is SignatureState.VALID
    other = issue("Other", authority=True).write(tmp_path, "other")[1]
    (one,) = await SignatureCheck(archive, TrustFiles(trusted=[other])).verify(stored)
    assert one.state is SignatureState.UNTRUSTED
    nowhere = TrustFiles(trusted=[tmp_path / "nowhere"])
    with pytest.raises(SignatureError, match="nowhere: No such file"):
        await SignatureCheck(archive, nowhere).verify(stored)


async def test_the_page_of_an_instance_says_who_signed_it(site: Site) -> None:
    cookie = await site.cookie("a-radiologist")

    async def page(number: int) -> str:
        path = f"/studies/{STUDY}/series/{SERIES}/instances/{uid(number)}"
        answer = await site.client.get(path, headers=cookie)
        assert answer.status_code == 200
        return answer.text

    signed = await page(1)
    assert "Digital signatures" in signed
    assert "Signer, Hospital" in signed
    assert "what it covers was changed since" in await page(2)
    assert "Digital signatures" not in await page(3)


def test_an_item_may_be_signed() -> None:
    item = {"FFFAFFFA": {"vr": "SQ", "Value": [{}]}}
    assert is_signed({"0040A730": {"vr": "SQ", "Value": [{}, item]}})
    assert not is_signed({"0040A730": {"vr": "SQ"}, "00100010": {"vr": "PN", "Value": [item]}})


async def test_without_room_for_temporary_files_it_is_asked_again_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> IO[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("isocenter.services.archive.signature_check.TemporaryFile", full)
    path = f"/api/v1/instances/{uid(1)}/signatures"
    assert (await site.client.get(path, headers=AS_PROGRAM)).status_code == 503


async def test_where_files_of_certificates_are_stands_in_the_log_only(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(files: TrustFiles) -> None:
        raise SignatureError("/etc/secret/ca.pem: No such file or directory")

    monkeypatch.setattr(TrustFiles, "read", missing)
    answer = await site.client.get(f"/api/v1/instances/{uid(1)}/signatures", headers=AS_PROGRAM)
    assert (answer.status_code, answer.json()["code"]) == (503, "NO_CERTIFICATES")
    path = f"/studies/{STUDY}/series/{SERIES}/instances/{uid(1)}"
    page = await site.client.get(path, headers=AS_PROGRAM)
    assert "a file of certificates cannot be read" in page.text
    assert "/etc/secret" not in answer.text + page.text
    assert caplog.text.count("/etc/secret/ca.pem") == 2


async def test_marks_of_a_study_are_told_and_shown(site: Site) -> None:
    path = f"/api/v1/signatures/studies/{STUDY}"
    answer = await site.client.get(path, headers=AS_PROGRAM)
    assert answer.json() == {
        "objects": 2,
        "marks": [
            {"state": "unknown", "signer": "", "purpose": "", "objects": 2, "example": uid(1)}
        ],
    }
    for number in (1, 2):
        await site.client.get(f"/api/v1/instances/{uid(number)}/signatures", headers=AS_PROGRAM)
    answer = await site.client.get(path, headers=AS_PROGRAM)
    assert [one["state"] for one in answer.json()["marks"]] == ["invalid", "valid"]
    cookie = await site.cookie("a-radiologist")
    page = await site.client.get(f"/studies/{STUDY}", headers=cookie)
    assert "1 object valid, signed by Signer" in page.text
    assert "1 object invalid" in page.text
    answer = await site.client.get("/api/v1/signatures/studies/1.2.9", headers=AS_PROGRAM)
    assert answer.json() == {"objects": 0, "marks": []}
