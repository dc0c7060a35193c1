"""Remote node over DICOMweb: QIDO-RS, WADO-RS and STOW-RS as their user."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import msgspec

from isocenter.engine.dimse.status import ServiceClass, describe_status
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.made_objects import in_syntax
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.dicom.attribute_path import KeyName
from isocenter.services.dicom.kept_objects import KeptObjects
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.pixels.transcoder import Transcoder
from isocenter.services.net.http.client_errors import HttpStatusError
from isocenter.services.notices import Caller, Notices
from isocenter.services.service_classes.storage.sent_account import SentAccount
from isocenter.services.web.client.client import DicomWebClient
from isocenter.services.web.client.models import dataset_of, value_of
from isocenter.services.web.client.resources import WebResource
from isocenter.services.web.dicomweb.store.incoming import Incoming
from isocenter.services.web.rest.digests import DigestList
from isocenter.services.workflow.nodes.ports import (
    Arrived,
    NodeError,
    ObjectDigest,
    RemoteInstance,
    Told,
)
from isocenter.services.workflow.nodes.remote_study import RemoteStudy, question, remote_study

_STUDY: Final = "0020000D"
_SERIES: Final = "0020000E"
_INSTANCE: Final = "00080018"
_CLASS: Final = "00080016"
#: De-identified objects of one request, each an open file until it was sent; and their bytes.
_MADE_TOGETHER: Final = 50
_MOST_MADE_BYTES: Final = 1 << 30
#: Where a node has not what it was asked for.
_ABSENT: Final = frozenset({404, 410})


class WebNode:
    """See `isocenter.services.workflow.nodes.ports.RemoteArchive`.

    Args:
        client: of its service, and open.
        transcoder: makes objects in the transfer syntax that a rule names; None: they are sent as
            they are.
    """

    def __init__(
        self,
        client: DicomWebClient,
        archive: Archive,
        notices: Notices,
        transcoder: Transcoder | None = None,
    ) -> None:
        self._client = client
        self._archive = archive
        self._notices = notices
        self._transcoder = transcoder

    async def verify(self) -> None:
        """See `RemoteArchive.verify`."""
        async for _ in self._client.search(Level.STUDY, limit=1):
            pass

    async def search(self, keys: Sequence[tuple[str, str]], limit: int) -> Sequence[RemoteStudy]:
        """See `RemoteArchive.search`."""
        found = []
        async for model in self._client.search(Level.STUDY, question(keys), limit=limit):
            study = remote_study(dataset_of(model))
            if study is not None:
                found.append(study)
        return found

    @asynccontextmanager
    async def instances(
        self, keys: Sequence[tuple[KeyName, str]]
    ) -> AsyncIterator[AsyncIterator[Sequence[RemoteInstance]]]:
        """See `RemoteArchive.instances`."""
        async with aclosing(self._listed(keys)) as studies:
            yield studies

    async def _listed(
        self, keys: Sequence[tuple[KeyName, str]]
    ) -> AsyncGenerator[Sequence[RemoteInstance], None]:
        search = self._client.search
        studies = [value_of(model, _STUDY) async for model in search(Level.STUDY, keys)]
        for study in dict.fromkeys(filter(None, studies)):
            # Not all servers search instances of a study, but all those of a series.
            within = WebResource(study)
            series = [
                value_of(model, _SERIES) async for model in search(Level.SERIES, within=within)
            ]
            found = []
            for one in dict.fromkeys(filter(None, series)):
                async for model in search(Level.IMAGE, within=WebResource(study, one)):
                    uid = value_of(model, _INSTANCE)
                    if uid:
                        found.append(
                            RemoteInstance(
                                study_instance_uid=study,
                                series_instance_uid=one,
                                sop_instance_uid=uid,
                                sop_class_uid=value_of(model, _CLASS),
                            )
                        )
            if not found:
                raise NodeError(f"the node has study {study} and names no object of it")
            yield found

    async def digests(self, study_instance_uid: str) -> Mapping[str, ObjectDigest] | None:
        """See `RemoteArchive.digests`."""
        try:
            told = await self._client.told_beside(f"/api/v1/studies/{study_instance_uid}/digests")
            if told is None:
                return None
            listed = msgspec.json.decode(told, type=DigestList)
        except (HttpStatusError, msgspec.MsgspecError):
            return None  # another program, or one that does not let us know
        return {
            one.sop_instance_uid: ObjectDigest(
                transfer_syntax_uid=one.transfer_syntax_uid,
                digests=frozenset({one.digest, one.received_digest} - {""}),
            )
            for one in listed.objects
        }

    async def retrieve(
        self, wanted: Sequence[RemoteInstance], arrived: Arrived, *, is_whole_study: bool
    ) -> str:
        """See `RemoteArchive.retrieve`."""
        study = wanted[0].study_instance_uid
        uids = {one.sop_instance_uid for one in wanted}
        if is_whole_study:
            return await self._bring(WebResource(study), uids, arrived)
        said = ""
        for one in wanted:
            resource = WebResource(study, one.series_instance_uid, one.sop_instance_uid)
            said = await self._bring(resource, uids, arrived) or said
        return said

    async def _bring(self, resource: WebResource, uids: set[str], arrived: Arrived) -> str:
        caller = Caller(association="", address=self._client.base)
        async with Incoming(self._archive, self._notices, caller, resource.study) as incoming:
            try:
                async with self._client.retrieve(resource) as parts:
                    async for part in parts:
                        incoming.begin()
                        async for piece in part:
                            if not await incoming.write(piece):
                                break  # the rest of it is passed over
                        await incoming.end()
            except HttpStatusError as error:
                if error.status not in _ABSENT:
                    raise
                return str(error)
        said = ""
        for outcome in incoming.outcomes:
            fault = ""
            if not outcome.is_stored:
                what = describe_status(outcome.status, ServiceClass.STORAGE)
                fault = outcome.comment or f"{outcome.status:04X}H {what}"
            if outcome.sop_instance_uid in uids:
                arrived(outcome.sop_instance_uid, 0, fault)
            said = said or fault
        return said

    async def send(
        self, instances: Sequence[StoredInstance], told: Told, form: SentForm = AS_IT_IS
    ) -> None:
        """See `RemoteArchive.send`."""
        place = urlsplit(self._client.base)
        host = (place.hostname or "").rstrip(".")
        found = []
        for one in instances:
            item = stored_object(one, self._archive.open)
            leaving = await self._archive.leaving(item, host, form)
            found.append((one, leaving, leaving is not item))
        is_made = bool(form.transfer_syntax_uid) or any(changed for _, _, changed in found)
        together = _MADE_TOGETHER if is_made else max(1, len(found))
        made = KeptObjects(_MADE_TOGETHER, _MOST_MADE_BYTES)
        between = KeptObjects(1, _MOST_MADE_BYTES)  # what the next form of it is made of
        by_uid: dict[str, StoredInstance] = {}

        async def ready(start: int) -> AsyncGenerator[DicomObject, None]:
            # How long it is has to be known before it is sent, and what is made is made once.
            for stored, item, is_changed in found[start : start + together]:
                given = between.keeping(item) if is_changed else item
                leaves = given
                if form.transfer_syntax_uid:
                    leaves = await in_syntax(
                        given, form.transfer_syntax_uid, self._transcoder, made
                    )
                if is_changed and leaves is given:
                    leaves = made.keeping(given)
                by_uid[leaves.sop_instance_uid] = stored
                yield leaves

        account = SentAccount(place.hostname or "", place.netloc, instances, command="STOW-RS")
        account.begin(self._notices)
        try:
            for start in range(0, len(found), together):
                async with (
                    aclosing(ready(start)) as items,
                    aclosing(self._client.store(items)) as outcomes,
                ):
                    async for outcome in outcomes:
                        stored = by_uid[outcome.item.sop_instance_uid]
                        fault = outcome.reason or "the node did not keep it"
                        if outcome.is_stored:
                            fault = ""
                        account.count(stored, fault)
                        told(stored, fault)
        finally:
            made.close()
            between.close()
            account.end(self._notices)
