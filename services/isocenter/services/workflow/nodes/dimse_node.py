"""Remote node over DIMSE: C-ECHO, C-FIND, C-GET or C-MOVE, and C-STORE."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from isocenter.engine.dataset import DataSetError
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.dimse.status import ServiceClass, Status, describe_status
from isocenter.engine.errors import IsocenterError
from isocenter.engine.negotiation import MOST_CONTEXTS
from isocenter.engine.uid import VERIFICATION, is_uid
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.archive.sent_form import AS_IT_IS, SentForm
from isocenter.services.archive.store_answers import stored_notice
from isocenter.services.archive.stored_objects import stored_object
from isocenter.services.association.destination_slots import Places
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context, InvokingAssociation
from isocenter.services.dicom.attribute_path import KeyName
from isocenter.services.dicom.pixels.errors import PixelError
from isocenter.services.dicom.pixels.transcoder import Transcoder, cure_for
from isocenter.services.dicom.uid_registry import (
    BASIC_SYNTAXES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    STUDY_ROOT_MOVE,
    name_of,
)
from isocenter.services.errors import (
    NoPresentationContextError,
    OperationError,
    StorageError,
    has_failed,
)
from isocenter.services.notices import Caller, Notices
from isocenter.services.service_classes.client import ClientAssociation, RetrieveError
from isocenter.services.service_classes.query_retrieve.find_scu import FindResults
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.contexts import no_targets, plan_associations
from isocenter.services.service_classes.storage.retrieve_contexts import retrieve_contexts
from isocenter.services.service_classes.storage.scu import OPERATIONS_WINDOW, Transfer, send_object
from isocenter.services.service_classes.storage.sent_account import SentAccount
from isocenter.services.workflow.nodes.ports import (
    Arrived,
    NodeError,
    ObjectDigest,
    RemoteInstance,
    Told,
)
from isocenter.services.workflow.nodes.remote_study import (
    RemoteStudy,
    question,
    remote_study,
    text_in,
)

if TYPE_CHECKING:
    import pydicom

log = logging.getLogger("isocenter.jobs")

#: SOP Instance UIDs in one identifier: some archives refuse long ones.
_UIDS_AT_ONCE: Final = 64
#: Also where objects are asked for: the next job begins with a query, over the same association.
_FIND_CONTEXT: Final = (STUDY_ROOT_FIND, BASIC_SYNTAXES)
_OTHER: Final = "it is none of the objects that were asked for"


class NodeConnector(Protocol):
    """Opens associations with nodes, by our settings."""

    def __call__(
        self,
        peer: Peer,
        contexts: Sequence[Context],
        *,
        operations_window: int = 1,
        scp_roles: Collection[str] = (),
    ) -> AbstractAsyncContextManager[ClientAssociation]: ...


class DimseNode:
    """See `isocenter.services.workflow.nodes.ports.RemoteArchive`.

    Args:
        move_destination: the AE title under which the node may send to us (C-MOVE), where it does
            not offer C-GET; empty: nobody listens here.
        transcoder: makes what the node takes, where it does not take what is stored.
        places: how many associations objects go over at once; None: as many as are asked for.
    """

    def __init__(
        self,
        peer: Peer,
        connect: NodeConnector,
        archive: Archive,
        notices: Notices,
        *,
        move_destination: str = "",
        transcoder: Transcoder | None = None,
        places: Places | None = None,
    ) -> None:
        self._peer = peer
        self._connect = connect
        self._archive = archive
        self._notices = notices
        self._move_destination = move_destination
        self._transcoder = transcoder
        self._places = places
        self._offers_get = True

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Its turn to send objects, or to have them sent."""
        if self._places is None:
            yield
            return
        async with self._places.place(self._peer.ae_title):
            yield

    async def verify(self) -> None:
        """See `RemoteArchive.verify`."""
        async with self._connect(self._peer, [(VERIFICATION, BASIC_SYNTAXES)]) as association:
            await association.echo()

    async def search(self, keys: Sequence[tuple[str, str]], limit: int) -> Sequence[RemoteStudy]:
        """See `RemoteArchive.search`."""
        found: list[RemoteStudy] = []
        async with (
            self._connect(self._peer, [_FIND_CONTEXT]) as association,
            _find(association, Level.STUDY, question(keys)) as matches,
        ):
            async for match in matches:
                study = remote_study(match)
                if study is not None:
                    found.append(study)
                if len(found) >= limit:
                    break
        return found

    @asynccontextmanager
    async def instances(
        self, keys: Sequence[tuple[KeyName, str]]
    ) -> AsyncIterator[AsyncIterator[Sequence[RemoteInstance]]]:
        """See `RemoteArchive.instances`."""
        async with (
            self._connect(self._peer, [_FIND_CONTEXT]) as association,
            aclosing(self._listed(association, keys)) as studies,
        ):
            yield studies

    async def _listed(
        self, association: ClientAssociation, keys: Sequence[tuple[KeyName, str]]
    ) -> AsyncGenerator[Sequence[RemoteInstance], None]:
        asked = [("StudyInstanceUID", ""), *keys]
        matches = _find(association, Level.STUDY, asked)
        studies = [_uid(match, "StudyInstanceUID") async for match in matches]
        for study in dict.fromkeys(filter(None, studies)):
            found = []
            within = [("StudyInstanceUID", study)]
            series_keys = [*within, ("SeriesInstanceUID", "")]
            series = [
                _uid(match, "SeriesInstanceUID")
                async for match in _find(association, Level.SERIES, series_keys)
            ]
            for one in dict.fromkeys(filter(None, series)):
                image_keys = [
                    *within,
                    ("SeriesInstanceUID", one),
                    ("SOPInstanceUID", ""),
                    ("SOPClassUID", ""),
                ]
                async for match in _find(association, Level.IMAGE, image_keys):
                    uid = _uid(match, "SOPInstanceUID")
                    if uid:
                        found.append(
                            RemoteInstance(
                                study_instance_uid=study,
                                series_instance_uid=one,
                                sop_instance_uid=uid,
                                sop_class_uid=_uid(match, "SOPClassUID"),
                            )
                        )
            if not found:
                raise NodeError(f"the node has study {study} and names no object of it")
            yield found

    async def digests(self, study_instance_uid: str) -> Mapping[str, ObjectDigest] | None:
        """See `RemoteArchive.digests`."""
        return None  # over DIMSE there is no such attribute

    async def retrieve(
        self, wanted: Sequence[RemoteInstance], arrived: Arrived, *, is_whole_study: bool
    ) -> str:
        """See `RemoteArchive.retrieve`."""
        if self._offers_get:
            try:
                return await self._get(wanted, arrived, is_whole_study=is_whole_study)
            except NoPresentationContextError:
                self._offers_get = False
        if not self._move_destination:
            raise NodeError(
                "the node does not offer C-GET, and for C-MOVE nobody listens here: let the "
                "server retrieve"
            )
        try:
            return await self._move(wanted, is_whole_study=is_whole_study)
        except NoPresentationContextError as error:
            raise NodeError("the node offers neither C-GET nor C-MOVE") from error

    async def _get(
        self, wanted: Sequence[RemoteInstance], arrived: Arrived, *, is_whole_study: bool
    ) -> str:
        classes = sorted({one.sop_class_uid for one in wanted})
        known = classes if all(map(is_uid, classes)) else ()
        contexts = retrieve_contexts(known)
        asked = [(STUDY_ROOT_GET, BASIC_SYNTAXES), *contexts]
        if len(asked) < MOST_CONTEXTS:
            asked.append(_FIND_CONTEXT)
        uids = {one.sop_instance_uid for one in wanted}
        async with (
            self._place(),
            self._connect(
                self._peer,
                asked,
                scp_roles={uid for uid, _ in contexts},
            ) as association,
        ):
            caller = Caller(
                association="", address=str(self._peer), calling_ae_title=self._peer.ae_title
            )

            async def receive(operation: Operation, request: CStoreRequest) -> int:
                if request.affected_sop_instance_uid not in uids:
                    raise OperationError(Status.CANNOT_UNDERSTAND, _OTHER)
                return await self._keep(operation, request, caller, arrived)

            said = ""
            for level, keys in _identifiers(wanted, is_whole_study=is_whole_study):
                encode = partial(build_identifier, keys, level)
                try:
                    await association.get(
                        encode, receive, sop_class_uid=STUDY_ROOT_GET, takes_raw_uids=True
                    )
                except RetrieveError as error:
                    said = said or str(error)
            return said

    async def _keep(
        self, operation: Operation, request: CStoreRequest, caller: Caller, arrived: Arrived
    ) -> int:
        uid = request.affected_sop_instance_uid
        try:
            async with await self._archive.receive(
                sop_class_uid=request.affected_sop_class_uid,
                sop_instance_uid=uid,
                transfer_syntax_uid=operation.context.transfer_syntax,
                source_ae_title=self._peer.ae_title,
            ) as ingest:
                async for fragments in operation.fragments():
                    await ingest.write(fragments)
                result = await ingest.commit()
                record = ingest.record
        except OperationError as error:
            arrived(uid, 0, str(error))
            raise
        assert record is not None
        self._notices.publish(stored_notice(caller, record, result.outcome))
        arrived(uid, record.size, "")
        return result.status

    async def _move(self, wanted: Sequence[RemoteInstance], *, is_whole_study: bool) -> str:
        contexts = [(STUDY_ROOT_MOVE, BASIC_SYNTAXES), _FIND_CONTEXT]
        said = ""
        async with self._place(), self._connect(self._peer, contexts) as association:
            for level, keys in _identifiers(wanted, is_whole_study=is_whole_study):
                encode = partial(build_identifier, keys, level)
                try:
                    await association.move(encode, self._move_destination)
                except RetrieveError as error:
                    said = said or str(error)
        return said

    async def send(
        self, instances: Sequence[StoredInstance], told: Told, form: SentForm = AS_IT_IS
    ) -> None:
        """See `RemoteArchive.send`."""
        transcoder = self._transcoder
        plans = plan_associations(
            instances,
            lambda one: (
                one.sop_class_uid,
                self._archive.leaving_syntax(one, self._peer.ae_title, form.project),
            ),
            no_targets if transcoder is None else transcoder.targets,
            first=form.transfer_syntax_uid,
        )
        for contexts, group in plans:
            await self._send_group(contexts, group, told, form)

    async def _send_group(
        self,
        contexts: Sequence[Context],
        group: Sequence[StoredInstance],
        told: Told,
        form: SentForm,
    ) -> None:
        peer = self._peer
        account = SentAccount(peer.ae_title, f"{peer.host}:{peer.port}", group)

        def take_down(stored: StoredInstance, fault: str) -> None:
            account.count(stored, fault)
            told(stored, fault)

        async def send(association: InvokingAssociation, stored: StoredInstance) -> None:
            take_down(stored, await self._deliver(association, stored, form))

        def lose(stored: StoredInstance, error: IsocenterError) -> None:
            take_down(stored, str(error))

        @asynccontextmanager
        async def associate() -> AsyncIterator[InvokingAssociation]:
            async with (
                self._place(),
                self._connect(
                    self._peer, contexts, operations_window=OPERATIONS_WINDOW
                ) as association,
            ):
                account.begin(self._notices)
                yield association

        transfer = Transfer(group, send=send, lose=lose)
        try:
            await transfer.send_over_associations(associate)
        finally:
            account.end(self._notices)
        if transfer.fault is not None:
            raise transfer.fault

    async def _deliver(
        self, association: InvokingAssociation, stored: StoredInstance, form: SentForm
    ) -> str:
        """What is against it.

        Raises:
            AssociationError: the association ended first.
        """
        item = stored_object(stored, self._archive.open)
        try:
            item = await self._archive.leaving(item, self._peer.ae_title, form)
            response = await send_object(
                association,
                item,
                transcoder=self._transcoder,
                first=form.transfer_syntax_uid,
            )
        except KeyError:
            return "it was removed or replaced meanwhile"
        except (StorageError, DataSetError, OSError) as error:
            return f"it cannot be read: {error}"
        except PixelError as error:
            return f"it cannot be transcoded: {error}"
        except (IsocenterError, ExceptionGroup):
            raise
        except Exception as error:
            # A fault of ours with one object blocks no other; its text may name a patient.
            return f"internal error ({type(error).__name__})"
        if response is None:
            syntax = stored.transfer_syntax_uid
            return (
                f"the node accepted no presentation context for {name_of(stored.sop_class_uid)} in "
                f"{name_of(syntax)}{cure_for(syntax)}"
            )
        if has_failed(response.status):
            what = describe_status(response.status, ServiceClass.STORAGE)
            return f"the node answered {response.status:04X}H {what}"
        return ""


def _find(
    association: ClientAssociation, level: Level, keys: Sequence[tuple[KeyName, str]]
) -> FindResults:
    encode = partial(build_identifier, keys, level)
    return association.find(encode, sop_class_uid=STUDY_ROOT_FIND)


def _uid(match: pydicom.Dataset, keyword: str) -> str:
    value = text_in(match, keyword)
    return value if is_uid(value) else ""


def _identifiers(
    wanted: Sequence[RemoteInstance], *, is_whole_study: bool
) -> Iterator[tuple[Level, list[tuple[KeyName, str]]]]:
    """Of the questions by which objects of one study are asked for."""
    study = wanted[0].study_instance_uid
    if is_whole_study:
        yield Level.STUDY, [("StudyInstanceUID", study)]
        return
    by_series: dict[str, list[str]] = {}
    for one in wanted:
        by_series.setdefault(one.series_instance_uid, []).append(one.sop_instance_uid)
    for series, uids in by_series.items():
        for start in range(0, len(uids), _UIDS_AT_ONCE):
            yield (
                Level.IMAGE,
                [
                    ("StudyInstanceUID", study),
                    ("SeriesInstanceUID", series),
                    ("SOPInstanceUID", "\\".join(uids[start : start + _UIDS_AT_ONCE])),
                ],
            )
