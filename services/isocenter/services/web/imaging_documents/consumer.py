"""Imaging Document Consumer: objects of a manifest, from its imaging document source (RAD-69).

What a job needs of it is what it needs of a remote node: which objects there are, which the
manifest says, and that some of them are stored here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

import trio

from isocenter.engine.dimse.status import ServiceClass, describe_status
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.archive import Archive
from isocenter.services.dicom.attribute_path import KeyName
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES
from isocenter.services.integration.sharing.imaging_document_set import (
    RETRIEVE_IMAGING,
    ImagingDocument,
    imaging_request,
    read_imaging_answer,
)
from isocenter.services.integration.sharing.manifest import ManifestError
from isocenter.services.integration.sharing.ports import DocumentSource, SharedDocument
from isocenter.services.integration.sharing.received_manifest import (
    ReceivedManifest,
    read_manifest,
)
from isocenter.services.integration.sharing.soap import decoded
from isocenter.services.integration.sharing.soap_streams import Beside, streamed_call
from isocenter.services.integration.sharing.stored_queries import is_for_later, shown_codes
from isocenter.services.net.http.client import HttpClient
from isocenter.services.net.http.client_errors import BrokenAnswerError, HttpStatusError
from isocenter.services.net.http.multipart import PartData, PartEnded, PartStarted
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.services.workflow.nodes.ports import Arrived, RemoteInstance

#: Objects that are asked for at once.
_AT_ONCE: Final = 200
#: In which objects are taken: as they are there, whatever that is, first.
_TAKEN: Final = tuple(
    dict.fromkeys(
        (
            EXPLICIT_VR_LITTLE_ENDIAN,
            *PIXEL_SYNTAXES,
            DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            IMPLICIT_VR_LITTLE_ENDIAN,
        )
    )
)


class ImagingSource:
    """See `isocenter.services.workflow.nodes.ports.RetrievableArchive`.

    Args:
        documents: the repository that has the manifest.
        document: the manifest.
        client: of the address of the imaging document source.
    """

    def __init__(
        self,
        documents: DocumentSource,
        document: SharedDocument,
        client: HttpClient,
        archive: Archive,
        notices: Notices,
    ) -> None:
        self._documents = documents
        self._document = document
        self._client = client
        self._archive = archive
        self._notices = notices
        self._manifest: ReceivedManifest | None = None

    @asynccontextmanager
    async def instances(
        self, keys: Sequence[tuple[KeyName, str]]
    ) -> AsyncIterator[AsyncIterator[Sequence[RemoteInstance]]]:
        """See `RetrievableArchive.instances`; which they are, the manifest says."""
        async with aclosing(self._listed()) as studies:
            yield studies

    async def _listed(self) -> AsyncGenerator[Sequence[RemoteInstance], None]:
        manifest = await self._read()
        yield [
            RemoteInstance(
                study_instance_uid=manifest.study_instance_uid,
                series_instance_uid=one.series_instance_uid,
                sop_instance_uid=uid,
                sop_class_uid="",
            )
            for one in manifest.series
            for uid in one.sop_instance_uids
        ]

    async def _read(self) -> ReceivedManifest:
        if self._manifest is None:
            content = await self._documents.retrieve(self._document)
            # That of a large study takes seconds.
            found = await trio.to_thread.run_sync(read_manifest, content)
            if (found.document_uid, found.study_instance_uid) != (
                self._document.uid,
                self._document.study_instance_uid,
            ):
                raise ManifestError("the repository has another manifest by that UID now")
            self._manifest = found
        return self._manifest

    async def retrieve(
        self, wanted: Sequence[RemoteInstance], arrived: Arrived, *, is_whole_study: bool
    ) -> str:
        """See `RetrievableArchive.retrieve`."""
        manifest = await self._read()
        places = {one.series_instance_uid: one.location_uid for one in manifest.series}
        said = ""
        for start in range(0, len(wanted), _AT_ONCE):
            some = sorted(wanted[start : start + _AT_ONCE], key=lambda one: one.series_instance_uid)
            said = await self._bring(some, places, arrived) or said
        return said

    async def _bring(
        self, wanted: Sequence[RemoteInstance], places: dict[str, str], arrived: Arrived
    ) -> str:
        request = imaging_request(
            [
                ImagingDocument(
                    study_instance_uid=one.study_instance_uid,
                    series_instance_uid=one.series_instance_uid,
                    sop_instance_uid=one.sop_instance_uid,
                    place=places.get(one.series_instance_uid, ""),
                )
                for one in wanted
            ],
            _TAKEN,
        )
        caller = Caller(association="", address=self._client.base)
        study = wanted[0].study_instance_uid
        uids = {one.sop_instance_uid for one in wanted}
        async with (
            # What is here already, and is not asked for, is not to be replaced.
            Incoming(self._archive, self._notices, caller, study, uids) as incoming,
            streamed_call(self._client, RETRIEVE_IMAGING, request, most_parts=len(wanted)) as (
                envelope,
                beside,
            ),
        ):
            answer = read_imaging_answer(envelope.body)
            if len(answer.beside) + len(answer.within) > len(wanted):
                raise BrokenAnswerError("the answer has more documents than were asked for")
            if is_for_later(answer.codes):
                raise HttpStatusError(503, "")
            for text in answer.within:
                await _take_text(incoming, text)
            await _take_parts(incoming, beside, answer.beside)
        said = shown_codes(answer.codes)
        said = f"the source refuses: {said}" if said else ""
        for outcome in incoming.outcomes:
            fault = ""
            if not outcome.is_stored:
                what = describe_status(outcome.status, ServiceClass.STORAGE)
                fault = outcome.comment or f"{outcome.status:04X}H {what}"
            if outcome.sop_instance_uid in uids:
                arrived(outcome.sop_instance_uid, 0, fault)
            said = said or fault
        return said


async def _take_text(incoming: Incoming, text: str) -> None:
    """A document that stands in the envelope."""
    content = await trio.to_thread.run_sync(decoded, text)
    incoming.begin()
    await incoming.write(content)
    await incoming.end()


async def _take_parts(incoming: Incoming, beside: Beside, wanted: frozenset[str]) -> None:
    """The documents beside the envelope, each as it comes; others are left out."""
    is_wanted = False
    async for event in beside:
        match event:
            case PartStarted():
                name = (event.header("content-id") or "").strip().strip("<>")
                is_wanted = name in wanted
                if is_wanted:
                    incoming.begin()
            case PartData() if is_wanted:
                if await incoming.write(event.data):
                    beside.taken()
            case PartEnded() if is_wanted:
                await incoming.end()
                beside.taken()
                is_wanted = False
