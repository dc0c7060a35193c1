"""Performed procedure steps over the web: the rules, states and notices are those of DIMSE."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from isocenter.services.association.peer import Peer
from isocenter.services.errors import StorageError
from isocenter.services.notices import PerformedStepChanged
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.mpps.scu import CONTEXTS, create_step, get_step, set_step
from services.service_classes.mpps.samples import UID, begun, ended
from services.web.asking import WebSide, web_side
from support.outcomes import outcome

PATH = f"/dicomweb/modality-performed-procedure-steps/{UID}"
JSON = "application/dicom+json"


def model(dataset: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = dataset.to_json_dict()
    return found


def without(dataset: Dataset, *keywords: str) -> Dataset:
    for keyword in keywords:
        delattr(dataset, keyword)
    return dataset


async def state_of(ask: WebSide) -> str:
    step = await ask.parts.stores.steps.get(UID)
    assert step is not None
    return step.state.value


async def test_from_begin_to_end() -> None:
    async with web_side() as ask:
        assert (await ask("GET", PATH)).status == 404
        created = await ask("POST", PATH, model(begun()))
        assert (created.status, created.body) == (201, b"")
        assert created.headers["location"] == f"http://localhost:8080{PATH}"
        assert await state_of(ask) == "IN PROGRESS"
        changed = await ask("POST", f"{PATH}?update", model(ended()))
        assert (changed.status, changed.body) == (200, b"")
        assert await state_of(ask) == "COMPLETED"
        got = await ask("GET", PATH)
        assert (got.status, got.headers["content-type"]) == (200, JSON)
        expected = begun()
        expected.update(ended())
        expected.SpecificCharacterSet = "ISO_IR 192"  # as all JSON is
        assert Dataset.from_json(got.json) == expected
        told = [one for one in ask.notices if isinstance(one, PerformedStepChanged)]
        assert [one.state for one in told] == ["IN PROGRESS", "COMPLETED"]
        assert told[0].caller.address == "127.0.0.1"
        (row,) = await ask.parts.stores.steps.rows()
        assert row.source_ae_title == "127.0.0.1"


async def test_texts_of_any_script() -> None:
    step = begun()
    step.SpecificCharacterSet = "ISO_IR 192"
    step.PerformedProcedureStepDescription = "頭部 Größe"
    async with web_side() as ask:
        assert (await ask("POST", PATH, model(step))).status == 201
        got = (await ask("GET", PATH)).json
        assert got["00400254"]["Value"] == ["頭部 Größe"]
        assert got["00080005"]["Value"] == ["ISO_IR 192"]


@pytest.mark.parametrize("accept", ["application/dicom+xml", f"multipart/related; type={JSON}"])
async def test_other_forms(accept: str) -> None:
    async with web_side() as ask:
        await ask("POST", PATH, model(begun()))
        got = await ask("GET", PATH, accept=accept)
        assert got.status == 200
        xml = accept.endswith("xml")
        assert (b"NativeDicomModel" in got.body) is xml
        if xml:
            again = await ask("POST", f"{PATH}.1", got.body, content_type=accept)
            assert again.status == 201
        assert (await ask("GET", PATH, accept="image/png")).status == 406


def changed(dataset: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, model(without(begun(), "Modality"))),
        (400, model(changed(begun(), Modality=""))),
        (400, model(changed(begun(), PerformedProcedureStepStatus="COMPLETED"))),
        (400, model(changed(begun(), PerformedProcedureStepStatus="OVER"))),
        (400, {}),
        (400, [model(begun())] * 2),
        (400, b"no json"),
        (400, b'{"00400254": {"vr": "LO", "Value": ["\\ud800"]}}'),
        (400, b'{"00400252": {"vr": "CS"}, "00400252": {"vr": "CS"}}'),
        (400, b'{"00400270":{"vr":"SQ","Value":[' * 70 + b"{}" + b"]}}" * 70),
        (400, b'{"00400270":{"vr":"SQ","Value":[' * 100_000),
        (400, model(begun()) | {"FFFEE000": {"vr": "UN"}}),
        (413, model(begun()) | {"00400280": {"vr": "ST", "Value": ["x" * 2_000_000]}}),
    ],
)
async def test_what_is_no_step(status: int, body: Any) -> None:
    async with web_side() as ask:
        answer = await ask("POST", PATH, body, content_type=JSON)
        assert answer.status == status
        assert answer.json["error"]["message"]
        assert not await ask.parts.stores.steps.rows()


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (409, "NOT_ALLOWED_ANY_MORE", model(changed(Dataset(), PatientID="OTHER"))),
        (409, "INCOMPLETE", model(without(ended(), "PerformedProcedureStepEndDate"))),
        (400, "BAD_DATA_SET", model(changed(ended(), PerformedProcedureStepStatus="OVER"))),
    ],
)
async def test_what_does_not_go_with_the_step(status: int, code: str, body: Any) -> None:
    async with web_side() as ask:
        await ask("POST", PATH, model(begun()))
        answer = await ask("POST", f"{PATH}?update=true", body)
        assert (answer.status, answer.json["error"]["code"]) == (status, code)
        assert await state_of(ask) == "IN PROGRESS"


async def test_xml_has_no_entities() -> None:
    body = b'<!DOCTYPE a [<!ENTITY x "y">]><NativeDicomModel>&x;</NativeDicomModel>'
    async with web_side() as ask:
        answer = await ask("POST", PATH, body, content_type="application/dicom+xml")
        assert (answer.status, answer.json["error"]["code"]) == (400, "BAD_DATA_SET")


async def test_what_is_there_and_what_is_not() -> None:
    async with web_side() as ask:
        missing = await ask("POST", f"{PATH}?update", model(ended()))
        assert (missing.status, missing.json["error"]["code"]) == (404, "NOT_FOUND")
        await ask("POST", PATH, model(begun()))
        twice = await ask("POST", PATH, model(begun()))
        assert (twice.status, twice.json["error"]["code"]) == (409, "IN_USE")
        await ask("POST", f"{PATH}?update", model(ended()))
        final = await ask("POST", f"{PATH}?update", model(ended()))
        assert (final.status, final.json["error"]["code"]) == (409, "FINAL")
        assert "may no longer be updated" in final.json["error"]["message"]
        assert (await ask("POST", "/dicomweb/modality-performed-procedure-steps/x")).status == 400
        assert (await ask("POST", PATH, b"")).status == 415


async def test_what_cannot_be_kept_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is full")

    async with web_side() as ask:
        for name in ("create", "change", "get"):
            monkeypatch.setattr(ask.parts.stores.steps, name, broken)
        for method, path in (("POST", PATH), ("POST", f"{PATH}?update"), ("GET", PATH)):
            answer = await ask(method, path, model(begun()))
            assert answer.status == 503
            assert "retry-after" in answer.headers


async def test_who_is_told_of_steps_is_told_of_these() -> None:
    settings = {
        "peers": ["PACS@127.0.0.1:104"],
        "mpps.notify": ["PACS"],
        "server.ae_title": "ARCHIVE",
    }
    async with web_side(settings) as ask:
        await ask("POST", PATH, model(begun()))
        await ask("POST", f"{PATH}?update", model(ended()))
        claimed = await ask.parts.stores.reports.claim("worker", 60, 10)
        assert [each.report.event_type for each in claimed] == [1, 2]
        for each in claimed:
            report = each.report
            assert (report.destination, report.calling_ae_title) == ("PACS", "ARCHIVE")
            assert report.sop_instance_uid == UID


async def test_dimse_and_the_web_see_the_same_steps() -> None:
    other = f"{UID}.2"
    async with web_side(listens=True) as ask:
        peer = Peer("ISOCENTER", "127.0.0.1", ask.port)
        async with open_association(peer, CONTEXTS, calling_ae_title="CT1") as modality:
            await ask("POST", PATH, model(begun()))
            answer = await outcome(get_step(modality, UID))
            assert answer.attributes is not None
            assert answer.attributes.to_dataset() == begun()
            assert (await outcome(set_step(modality, UID, ended()))).status == 0
            assert (await ask("GET", PATH)).json["00400252"]["Value"] == ["COMPLETED"]
            assert (await outcome(create_step(modality, other, begun()))).status == 0
            there = PATH.replace(UID, other)
            assert (await ask("POST", f"{there}?update", model(ended()))).status == 200
            refused = await outcome(set_step(modality, other, ended()))
            assert refused.status == 0x0110
