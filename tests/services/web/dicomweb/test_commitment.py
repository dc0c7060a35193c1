"""Storage commitment over the web: what is answered, kept, and seen over DIMSE."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio

from isocenter.services.association.peer import Peer
from isocenter.services.errors import StorageError
from isocenter.services.notices import CommitmentDone
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.commitment.scu import (
    CONTEXTS,
    CommitmentResults,
    request_commitment,
)
from isocenter.services.service_classes.commitment.transaction import Reference, TransactionState
from services.archive_support import CT, SERIES, STUDY, store, uid
from services.web.asking import Answered, WebSide, web_side

TRANSACTION = "1.2.826.0.1.3680043.10.999.77"
PATH = f"/dicomweb/commitment-requests/{TRANSACTION}"
#: Longer than anything here takes in real time.
PATIENCE = 60.0


def attribute(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def named(number: int, sop_class: str = CT) -> dict[str, Any]:
    return {"00081150": attribute("UI", sop_class), "00081155": attribute("UI", uid(number))}


def asked(*numbers: int) -> dict[str, Any]:
    return {"00081199": attribute("SQ", *map(named, numbers))}


def in_study(*numbers: int, study: str = STUDY, series: str = SERIES) -> dict[str, Any]:
    instances = [{"00081155": attribute("UI", uid(number))} for number in numbers]
    kind = {"00081150": attribute("UI", CT), "0008114A": attribute("SQ", *instances)}
    of_series = {"00081112": attribute("SQ", kind), "0020000E": attribute("UI", series)}
    of_study = {"00081115": attribute("SQ", of_series), "0020000D": attribute("UI", study)}
    return {"00081110": attribute("SQ", of_study)}


def uids(answer: Answered, sequence: str) -> list[str]:
    found = answer.json.get(sequence, {}).get("Value", [])
    return [item["00081155"]["Value"][0] for item in found]


async def settled(ask: WebSide, path: str = PATH) -> Answered:
    """The outcome, however long it takes."""
    with trio.fail_after(PATIENCE):
        while (answer := await ask("GET", path)).status == 202:
            await trio.lowlevel.checkpoint()
    return answer


async def test_what_is_kept_is_committed() -> None:
    async with web_side(listens=True) as ask:
        for number in (1, 2):
            await store(ask.parts.archive, number)
        assert (await ask("POST", PATH, asked(1, 2, 3))).status in (200, 202)
        answer = await settled(ask)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/dicom+json"
        assert answer.headers["content-location"].endswith(PATH)
        assert uids(answer, "00081199") == [uid(1), uid(2)]
        (failed,) = answer.json["00081198"]["Value"]
        assert failed["00081155"]["Value"] == [uid(3)]
        assert failed["00081197"] == attribute("US", 0x0112)
        # The path says which transaction it is (13.4.1.1).
        assert set(answer.json) == {"00081198", "00081199"}
        (row,) = await ask.parts.stores.commitments.rows()
        assert (row.transaction_uid, row.requester, row.state) == (
            TRANSACTION,
            "127.0.0.1",
            TransactionState.PARTIAL,
        )
        # Nobody is told: whoever asked comes for it.
        assert row.report == ""
        (notice,) = [one for one in ask.notices if isinstance(one, CommitmentDone)]
        assert notice.committed == (uid(1), uid(2))


async def test_what_takes_longer_is_asked_for_later(autojump_clock: trio.testing.MockClock) -> None:
    async with web_side() as ask:  # nobody is there who would verify it
        for answer in (await ask("POST", PATH, asked(1)), await ask("GET", PATH)):
            assert (answer.status, answer.body) == (202, b"")
            assert int(answer.headers["retry-after"]) > 0
        (row,) = await ask.parts.stores.commitments.rows()
        assert row.state is TransactionState.PENDING


async def test_a_uid_is_for_one_transaction() -> None:
    async with web_side(listens=True) as ask:
        await store(ask.parts.archive, 1)
        await ask("POST", PATH, asked(1))
        for again in (asked(1), asked(2)):
            answer = await ask("POST", PATH, again)
            assert (answer.status, answer.json["error"]["code"]) == (409, "IN_USE")
        assert uids(await settled(ask), "00081199") == [uid(1)]
        assert (await ask("GET", PATH + "1")).status == 404


async def test_instances_within_studies() -> None:
    async with web_side(listens=True) as ask:
        for number in (1, 2):
            await store(ask.parts.archive, number)
        await ask("POST", PATH, in_study(1, 2, 3))
        answer = await settled(ask)
        assert set(answer.json) == {"00081110", "0008119B"}
        expected = in_study(1, 2)
        (kind,) = expected["00081110"]["Value"][0]["00081115"]["Value"][0]["00081112"]["Value"]
        assert answer.json["00081110"] == expected["00081110"]
        assert kind["00081150"]["Value"] == [CT]
        text = answer.body.decode()
        assert uid(3) in text
        assert '"00081197":{"vr":"US","Value":[274]}' in text.replace(" ", "")
        # Elsewhere than the request says is not there.
        other = f"{PATH}.2"
        await ask("POST", other, in_study(1, series="9.9"))
        assert set((await settled(ask, other)).json) == {"0008119B"}


async def test_xml() -> None:
    async with web_side(listens=True) as ask:
        await store(ask.parts.archive, 1)
        values = ((0x1150, CT), (0x1155, uid(1)))
        item = "".join(
            f'<DicomAttribute tag="0008{tag:04X}" vr="UI"><Value number="1">{value}</Value>'
            "</DicomAttribute>"
            for tag, value in values
        )
        body = (
            '<NativeDicomModel><DicomAttribute tag="00081199" vr="SQ"><Item number="1">'
            f"{item}</Item></DicomAttribute></NativeDicomModel>"
        ).encode()
        await ask("POST", PATH, body, content_type="application/dicom+xml")
        await settled(ask)
        answer = await ask("GET", PATH, accept="application/dicom+xml")
        assert answer.headers["content-type"] == "application/dicom+xml"
        tags = [each.get("tag") for each in ET.fromstring(answer.body)]
        assert tags == ["00081199"]
        framed = b"--b\r\nContent-Type: application/dicom+xml\r\n\r\n" + body + b"\r\n--b--"
        content = 'multipart/related; type="application/dicom+xml"; boundary=b'
        assert (await ask("POST", f"{PATH}.2", framed, content_type=content)).status in (200, 202)


@pytest.mark.parametrize(
    ("status", "uid_", "body", "content_type"),
    [
        (400, "no-uid", asked(1), ""),
        (400, "1.2", {}, ""),
        (400, "1.2", {"00081199": {"vr": "SQ"}}, ""),
        (400, "1.2", {"00081199": attribute("SQ", {"00081150": attribute("UI", CT)})}, ""),
        (400, "1.2", {"00081199": attribute("SQ", named(1, "no uid"))}, ""),
        (400, "1.2", in_study(1, study=""), ""),
        (400, "1.2", {**asked(1), "00081195": attribute("UI", "1.3")}, ""),
        (400, "1.2", [asked(1), asked(2)], ""),
        (400, "1.2", b"{", "application/dicom+json"),
        (400, "1.2", b"<x/>", "application/dicom+xml"),
        (400, "1.2", b"--b", "multipart/related; boundary=b"),
        (415, "1.2", b"", ""),
        (415, "1.2", b"x", "application/dicom"),
        (415, "1.2", b"x", "nonsense"),
    ],
)
async def test_what_is_no_request(status: int, uid_: str, body: Any, content_type: str) -> None:
    headers = {"content_type": content_type} if content_type else {}
    async with web_side() as ask:
        answer = await ask("POST", f"/dicomweb/commitment-requests/{uid_}", body, **headers)
        assert answer.status == status, answer.body
        assert answer.json["error"]["message"]
        assert not await ask.parts.stores.commitments.rows()


async def test_what_cannot_be_answered_is_not_begun() -> None:
    async with web_side() as ask:
        assert (await ask("POST", PATH, asked(1), accept="image/jpeg")).status == 406
        assert not await ask.parts.stores.commitments.rows()


async def test_what_cannot_be_kept_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is full")

    async with web_side() as ask:
        monkeypatch.setattr(ask.parts.stores.commitments, "begin", broken)
        answer = await ask("POST", PATH, asked(1))
        assert (answer.status, answer.json["error"]["code"]) == (503, "UNAVAILABLE")
        assert "retry-after" in answer.headers
        assert "disk" not in answer.body.decode()


async def test_both_ways_are_one_list() -> None:
    results = CommitmentResults()
    async with web_side({"commitment.same_association": True}, listens=True) as ask:
        await store(ask.parts.archive, 1)
        peer = Peer("ISOCENTER", "127.0.0.1", ask.port)

        async def ask_by_dimse(transaction_uid: str) -> Any:
            with trio.fail_after(PATIENCE):
                return await request_commitment(
                    lambda provider: open_association(
                        peer, CONTEXTS, calling_ae_title="CT1", provider=provider
                    ),
                    [Reference(CT, uid(1))],
                    results,
                    transaction_uid=transaction_uid,
                    stay=PATIENCE,
                    wait=PATIENCE,
                )

        await ask_by_dimse("1.2.3.77")
        answer = await settled(ask, "/dicomweb/commitment-requests/1.2.3.77")
        assert uids(answer, "00081199") == [uid(1)]
        # A UID that the web has taken is none for DIMSE (0131H), and the other way round.
        await ask("POST", PATH, asked(1))
        await settled(ask)
        refused = await ask_by_dimse(TRANSACTION)
        assert [reason for _, reason in refused.failed] == [0x0131]
        assert (await ask("POST", "/dicomweb/commitment-requests/1.2.3.77", asked(1))).status == 409
        assert len(await ask.parts.stores.commitments.rows()) == 2
