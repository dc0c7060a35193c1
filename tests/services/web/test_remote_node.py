"""Objects at a remote node over DICOMweb, as the audit trail is told of them."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import Any

import pydicom
import pytest

from isocenter.engine.uid import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.coercion import coercer
from isocenter.services.archive.coercion.edits import SetValue
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.sent_form import SentForm
from isocenter.services.dicom.object_reader import ObjectReader
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.dicom.pixels.transfer_syntaxes import JPEG_BASELINE, RLE_LOSSLESS
from isocenter.services.notices import (
    InstancesSent,
    InstanceStored,
    Notice,
    Notices,
    ObjectTranscoded,
    TransferStarted,
)
from isocenter.services.web import remote_node
from isocenter.services.web.client import client as client_module
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.resources import WebResource
from isocenter.services.web.remote_node import WebNode
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import open_sqlite_stores
from services.archive_support import STUDY, store, uid
from support import studies
from support.deidentification import KEY
from support.web_archive import dicomweb_serving


async def test_what_is_sent_and_comes_back_is_told() -> None:
    heard: list[Notice] = []
    notices = Notices(heard.append)
    async with (
        Archive(MemoryStore(), MemoryIndex()) as here,
        Archive(MemoryStore(), MemoryIndex()) as other,
        dicomweb_serving() as url,
        DicomWebClient(url) as client,
    ):
        sent = [(await store(here, number)).instance for number in (1, 2, 3)]
        told: list[tuple[StoredInstance, str]] = []
        node = WebNode(client, here, notices)
        await node.verify()
        await node.send(sent, lambda stored, fault: told.append((stored, fault)))
        assert told == [(stored, "") for stored in sent]
        begun, ended = heard
        assert isinstance(begun, TransferStarted)
        assert isinstance(ended, InstancesSent)
        assert (ended.command, ended.destination) == ("STOW-RS", "127.0.0.1")
        assert (ended.sent, ended.completed, ended.failed) == ({STUDY: 3}, 3, 0)
        (study,) = await node.search([("PatientID", "P1")], 10)
        assert (study.study_instance_uid, study.instances) == (STUDY, "3")
        node = WebNode(client, other, notices)
        async with node.instances([("StudyInstanceUID", STUDY)]) as studies:
            (wanted,) = [instances async for instances in studies]
        assert {one.sop_instance_uid for one in wanted} == {uid(1), uid(2), uid(3)}
        came: list[tuple[str, str]] = []
        for some, is_whole in ((wanted[:1], False), (wanted, True)):
            said = await node.retrieve(
                some, lambda name, size, fault: came.append((name, fault)), is_whole_study=is_whole
            )
            assert said == ""
        assert {name for name, _ in came} == {uid(1), uid(2), uid(3)}
        assert {fault for _, fault in came} == {""}
        assert len(await other.index.get([uid(1), uid(2), uid(3)])) == 3
        assert sum(isinstance(notice, InstanceStored) for notice in heard) == 4


async def test_what_is_made_on_the_way_out_is_made_once() -> None:
    """How long it is is asked before it is sent, and each opening makes it."""
    async with (
        open_sqlite_stores(":memory:") as stores,
        Archive(MemoryStore(), MemoryIndex()) as here,
        dicomweb_serving() as url,
        DicomWebClient(url) as client,
    ):
        project = Project(name="trial", destinations=("127.0.0.1",))
        service = Deidentification([project], {"trial": KEY}, stores.deidentification)
        here.deidentification = service
        sent = [(await store(here, number)).instance for number in range(1, 4)]
        opened: Counter[str] = Counter()
        original = here.store.open

        async def counted(key: str) -> ObjectReader:
            opened[key] += 1
            return await original(key)

        here.store.open = counted  # type: ignore[method-assign]
        told: list[str] = []
        await WebNode(client, here, Notices()).send(sent, lambda one, fault: told.append(fault))
        assert told == ["", "", ""]
        assert opened == {one.object_key: 1 for one in sent}


@pytest.mark.parametrize(
    "syntax", [RLE_LOSSLESS, JPEG_BASELINE, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]
)
async def test_what_leaves_changed_in_another_syntax_is_made_once(
    syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoding that loses something is not allowed: then it leaves in the syntax that it has."""
    monkeypatch.setattr(remote_node, "_MADE_TOGETHER", 2)
    heard: list[Notice] = []
    changes: list[str] = []

    class CountedCoercer(coercer.Coercer):
        def __init__(self, syntax: str, *args: Any, **options: Any) -> None:
            changes.append(syntax)
            super().__init__(syntax, *args, **options)

    monkeypatch.setattr(coercer, "Coercer", CountedCoercer)
    images = [studies.instance(number=number) for number in range(1, 6)]
    form = SentForm(edits=(SetValue(0x00080080, "Nord"),), transfer_syntax_uid=syntax)
    async with (
        Archive(MemoryStore(), MemoryIndex()) as here,
        CodecPool(PoolLimits(workers=1)) as pool,
        dicomweb_serving() as url,
        DicomWebClient(url) as client,
    ):
        sent = []
        for image in images:
            item = DicomObject.from_dataset(image)
            data = b"".join([bytes(piece) async for piece, _ in item.parts()])
            sent.append(await store(here, data=data, sop_instance_uid=item.sop_instance_uid))
        told: list[str] = []
        node = WebNode(client, here, Notices(), Transcoder(pool, notices=Notices(heard.append)))
        await node.send([one.instance for one in sent], lambda one, fault: told.append(fault), form)
        assert told == [""] * 5
        outcomes = Counter(one.outcome for one in heard if isinstance(one, ObjectTranscoded))
        assert outcomes["made"] == (5 if syntax == RLE_LOSSLESS else 0)
        assert changes == [EXPLICIT_VR_LITTLE_ENDIAN] * 5
        arrived = {}
        async with client.retrieve(WebResource(images[0].StudyInstanceUID)) as parts:
            async for part in parts:
                whole = b"".join([bytes(piece) async for piece in part])
                dataset = pydicom.dcmread(BytesIO(whole))
                arrived[dataset.SOPInstanceUID] = dataset
    for image in images:
        dataset = arrived.pop(image.SOPInstanceUID)
        wanted = EXPLICIT_VR_LITTLE_ENDIAN if syntax == JPEG_BASELINE else syntax
        assert dataset.file_meta.TransferSyntaxUID == wanted
        assert dataset.InstitutionName == "Nord"
        assert (dataset.pixel_array == image.pixel_array).all()
    assert not arrived


async def test_one_that_cannot_be_read_holds_back_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where objects leave changed, nor in another syntax; what follows a stop is let go."""
    form = SentForm(transfer_syntax_uid=DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    edited = SentForm(edits=(SetValue(0x00080080, "Nord"),))
    both = SentForm(edits=edited.edits, transfer_syntax_uid=form.transfer_syntax_uid)
    async with (
        Archive(MemoryStore(), MemoryIndex()) as here,
        dicomweb_serving() as url,
        DicomWebClient(url) as client,
    ):
        sent = [(await store(here, number)).instance for number in range(1, 5)]
        original = here.store.open

        async def opened(key: str) -> ObjectReader:
            if key == sent[1].object_key:
                raise KeyError(key)
            return await original(key)

        monkeypatch.setattr(here.store, "open", opened)
        node = WebNode(client, here, Notices())
        told: list[tuple[StoredInstance, str]] = []
        for one in (form, edited, both):
            told.clear()
            await node.send(sent, lambda stored, fault: told.append((stored, fault)), one)
            assert [stored for stored, _ in told] == sent
            assert [bool(fault) for _, fault in told] == [False, True, False, False]

        class StopError(Exception):
            """Whoever is told wants no more."""

        def stop(stored: StoredInstance, fault: str) -> None:
            raise StopError

        monkeypatch.setattr(client_module, "_REQUEST_OBJECTS", 1)
        with pytest.raises(StopError):
            await node.send(sent, stop, both)
