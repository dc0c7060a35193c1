"""Signed objects, verified after they came."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.signature_check import SignatureCheck, TrustFiles
from isocenter.services.archive.signature_marks.verifier import (
    MarkedCheck,
    SignaturesVerified,
    verify_arrivals,
)
from isocenter.services.cli import main
from isocenter.services.notices import Notice, Notices
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import Stores, open_sqlite_stores
from services.web.rest.images import STUDY, image, put, uid
from support.signers import issue


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[pydicom.Dataset]]:
    """The certificate of who is trusted; an object that is signed, and one changed since."""
    folder = tmp_path_factory.mktemp("signed")
    authority = issue("Authority", authority=True)
    _, ca = authority.write(folder, "ca")
    key, certificate = issue("Signer", by=authority).write(folder, "signer")
    made: list[pydicom.Dataset] = []
    for number in (1, 2):
        path = folder / f"{number}.dcm"
        image(number).save_as(path, enforce_file_format=True)
        words = ["dcmsign", str(path), "-nb", "--key", str(key), "--cert", str(certificate),
                 "--purpose", "1"]  # fmt: skip
        assert main(words) == 0
        made.append(pydicom.dcmread(path))
    made[1].StudyDescription = "another one"
    return ca, made


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    async with open_sqlite_stores(":memory:") as opened:
        yield opened


async def run_once(archive: Archive, stores: Stores, check: MarkedCheck) -> None:
    """Until it has nothing more to do."""
    with trio.CancelScope() as scope:

        async def pause() -> None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

        await verify_arrivals(archive.index, stores.signatures, check, pause=pause)


async def test_what_came_is_verified_and_marked(
    signed: tuple[Path, list[pydicom.Dataset]], stores: Stores
) -> None:
    ca, objects = signed
    heard: list[Notice] = []
    async with Archive(MemoryStore(), stores.index) as archive:
        await put(archive, *objects, image(3))
        assert set(await stores.signatures.waiting(10)) == {uid(1), uid(2)}
        check = MarkedCheck(
            SignatureCheck(archive, TrustFiles(trusted=[ca])), stores.signatures,
            Notices(heard.append),
        )  # fmt: skip
        await run_once(archive, stores, check)
        assert not await stores.signatures.waiting(10)
        found = {one.state: one for one in await stores.signatures.of_study(STUDY)}
        assert set(found) == {"valid", "invalid"}
        assert (found["valid"].signer, found["valid"].purpose) == ("Signer", "Author's Signature")
        assert found["invalid"].example == uid(2)
        told = [each for each in heard if isinstance(each, SignaturesVerified)]
        assert {(each.sop_instance_uid, each.state) for each in told} == {
            (uid(1), "valid"), (uid(2), "invalid"),
        }  # fmt: skip


async def test_what_cannot_be_verified_is_left_unknown(
    signed: tuple[Path, list[pydicom.Dataset]], stores: Stores, tmp_path: Path
) -> None:
    _, objects = signed
    async with Archive(MemoryStore(), stores.index) as archive:
        await put(archive, objects[0])
        missing = TrustFiles(trusted=[tmp_path / "gone.pem"])
        check = MarkedCheck(SignatureCheck(archive, missing), stores.signatures, Notices())
        await run_once(archive, stores, check)
        (found,) = await stores.signatures.of_study(STUDY)
        assert (found.state, found.objects) == ("unknown", 1)
        assert not await stores.signatures.waiting(10)


class Broken:
    """A book with a fault that nobody thought of."""

    async def waiting(self, limit: int) -> list[str]:
        raise KeyError("Zenobia")


async def test_a_fault_that_nobody_thought_of_ends_no_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    book: Any = Broken()
    pauses = 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 2:
            raise trio.EndOfChannel

    with pytest.raises(trio.EndOfChannel):
        await verify_arrivals(book, book, book, pause=pause)
    assert "verified later: unexpected KeyError" in caplog.text
