"""What a server tells of what happens in it: each notice by a real association."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from isocenter.engine import pdu
from isocenter.engine.deadlines import DEFAULT_DEADLINES
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.errors import AssociationRejectedError
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.query import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.association.server import ListenAddress, Server
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.net.tls.contexts import TlsFiles, server_context
from isocenter.services.notices import (
    AssociationEnded,
    AssociationEstablished,
    AssociationOutcome,
    AssociationRejected,
    Caller,
    ConnectionRefused,
    InstanceRefused,
    InstancesSent,
    InstanceStored,
    Notice,
    Notices,
    OperationEnded,
    QueryAnswered,
    RefusalReason,
    ServerStarted,
    ServerStopped,
    WingNotice,
)
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.get_scp import GetScp
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.information_models import QueryOptions
from isocenter.services.service_classes.query_retrieve.move_scp import MoveScp
from isocenter.services.service_classes.query_retrieve.suboperations import RetrieveBacklog
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.outcomes import outcome
from support.raw import message_bytes, raw_peer
from support.serving import Scripted, port_of, serving
from support.studies import CT_IMAGE_STORAGE, ROOT, write_studies

T = TypeVar("T")
CT: Context = (CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,))
VERIFY: Context = (VERIFICATION, (EXPLICIT_VR_LITTLE_ENDIAN,))


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.notices = Notices(self.on_notice)
        self.all: list[Notice] = []
        self._came = trio.Event()

    def on_notice(self, notice: Notice) -> None:
        self.all.append(notice)
        self._came.set()
        self._came = trio.Event()

    def of(self, kind: type[T]) -> list[T]:
        return [notice for notice in self.all if isinstance(notice, kind)]

    async def next(self, kind: type[T], number: int = 1) -> T:
        """The *number*-th of a kind, once it has come."""
        with trio.fail_after(60):
            while len(self.of(kind)) < number:
                await self._came.wait()
        return self.of(kind)[number - 1]


@asynccontextmanager
async def archive_serving(heard: Heard) -> AsyncIterator[tuple[Server, Archive]]:
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        services = (StorageScp(archive), FindScp(archive.index, ae_title="US"), GetScp(archive))
        peers: dict[str, Peer] = {}

        def connect(peer: Peer, contexts: Any, **options: Any) -> Any:
            return open_association(peer, contexts, calling_ae_title="US")

        move = MoveScp(archive, destination=peers.get, connect=connect)
        async with serving(*services, move, notices=heard.notices) as server:
            peers["DEST"] = Peer("DEST", "127.0.0.1", port_of(server))
            yield server, archive


def calling(server: Server, *contexts: Context, **options: Any) -> Any:
    peer = Peer("US", "127.0.0.1", port_of(server))
    return open_association(peer, contexts, calling_ae_title="MODALITY", **options)


async def store(association: ClientAssociation, paths: list[Path]) -> None:
    for path in paths:
        response = await outcome(association.store(await DicomObject.from_file(path)))
        assert response.status == 0


async def test_an_association_from_its_beginning_to_its_end() -> None:
    heard = Heard()
    async with serving(notices=heard.notices) as server:
        async with calling(server, VERIFY, CT) as association:
            await association.echo()
        ended = await heard.next(AssociationEnded)
        server.stop()
        await heard.next(ServerStopped)
    assert [type(each) for each in heard.all] == [
        ServerStarted,
        AssociationEstablished,
        OperationEnded,
        AssociationEnded,
        ServerStopped,
    ]
    started, established, operation = heard.all[:3]
    assert isinstance(started, ServerStarted)
    assert started.addresses == (("127.0.0.1", port_of(server), False),)
    assert isinstance(established, AssociationEstablished)
    assert (established.contexts_proposed, established.contexts_accepted) == (2, 1)
    caller = established.caller
    assert (caller.calling_ae_title, caller.called_ae_title) == ("MODALITY", "US")
    assert caller.association
    assert caller.address.startswith("127.0.0.1:")
    assert not caller.is_tls
    assert isinstance(operation, OperationEnded)
    assert (operation.command, operation.sop_class_uid, operation.status, operation.as_scp) == (
        "C-ECHO",
        VERIFICATION,
        0,
        True,
    )
    assert operation.caller == ended.caller == caller
    assert ended.ending is AssociationOutcome.RELEASED
    assert ended.bytes_received > ended.bytes_sent > 0
    assert ended.seconds >= operation.seconds >= 0
    assert ended.operations == 1
    assert established.max_pdu_length == DEFAULT_LIMITS.max_pdu_length


async def test_a_rejection_says_what_the_log_says() -> None:
    heard = Heard()
    access = AeTitleRules(allow=("OTHER",))
    async with serving(notices=heard.notices, access=access) as server:
        with pytest.raises(AssociationRejectedError):
            async with calling(server, VERIFY):
                pass
    rejected = await heard.next(AssociationRejected)
    assert (rejected.result, rejected.source, rejected.reason) == (1, 1, 3)
    assert rejected.caller.calling_ae_title == "MODALITY"
    assert "--allow MODALITY" in rejected.why
    assert not heard.of(AssociationEstablished)
    assert not heard.of(ConnectionRefused)


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (b"\x16\x03\x01\x00\x10", RefusalReason.WRONG_PROTOCOL),
        (b"GET / HTTP/1.1\r\n\r\n", RefusalReason.WRONG_PROTOCOL),
        (b"\x01\x00\xff\xff\xff\xff", RefusalReason.WRONG_PROTOCOL),
    ],
)
async def test_who_speaks_something_else_is_refused(said: bytes, refusal: RefusalReason) -> None:
    heard = Heard()
    async with serving(notices=heard.notices) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.send(said)
            await peer.pdu()  # an A-ABORT, or the end
        refused = await heard.next(ConnectionRefused)
    assert refused.refusal is refusal
    assert refused.address.startswith("127.0.0.1:")
    assert refused.detail


async def test_who_speaks_something_else_and_stays_is_refused_once() -> None:
    """Its time runs out while it is waited for to close (ARTIM): that is told no second time."""
    heard = Heard()
    deadlines = replace(DEFAULT_DEADLINES, association_request=2.0)
    async with serving(notices=heard.notices, deadlines=deadlines) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.send(b"\x01\x00\xff\xff\xff\xff")
            assert isinstance(await peer.pdu(), pdu.Abort)
            assert await peer.is_closed()
        while server.connections:
            await trio.lowlevel.checkpoint()
    (refused,) = heard.of(ConnectionRefused)
    assert refused.refusal is RefusalReason.WRONG_PROTOCOL


async def test_a_handshake_without_a_certificate_is_refused(tmp_path: Path) -> None:
    authority = CertificateAuthority.create(tmp_path / "ca")
    authority.issue("archive", folder=tmp_path, hosts=["127.0.0.1"])
    ca = tmp_path / "ca.crt"
    files = TlsFiles(certificate=tmp_path / "archive.crt", key=tmp_path / "archive.key", ca=ca)
    context = server_context(files)
    heard = Heard()
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)
    stranger = ssl.create_default_context(cafile=str(ca))
    stranger.check_hostname = False
    async with serving(addresses=[bind], notices=heard.notices) as server:
        tcp = await trio.open_tcp_stream("127.0.0.1", port_of(server, tls=True))
        stream = trio.SSLStream(tcp, stranger)
        await stream.do_handshake()  # TLS 1.3: the client is done before it is judged
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        refused = await heard.next(ConnectionRefused)
        await tcp.aclose()
    assert refused.refusal is RefusalReason.TLS_HANDSHAKE
    assert "certificate" in refused.detail


async def test_an_abort_and_a_lost_connection_are_told_apart() -> None:
    heard = Heard()
    async with serving(notices=heard.notices) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(VERIFICATION)
            await peer.send(pdu.encode_abort(pdu.Abort(0, 0)))
            aborted = await heard.next(AssociationEnded, 1)
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(VERIFICATION)
        lost = await heard.next(AssociationEnded, 2)
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(VERIFICATION)
            await peer.send(b"\x99\x00\x00\x00\x00\x00")
            assert isinstance(await peer.pdu(), pdu.Abort)
        faulty = await heard.next(AssociationEnded, 3)
    assert aborted.ending is AssociationOutcome.ABORTED_BY_PEER
    assert lost.ending is AssociationOutcome.CONNECTION_LOST
    assert faulty.ending is AssociationOutcome.ABORTED_HERE
    # The A-ABORT, whoever sent it (PS3.8 Table 9-26): its user; none; we as provider, since the
    # PDU is none that there is.
    assert (aborted.abort_source, aborted.abort_reason) == (0, 0)
    assert (lost.abort_source, lost.abort_reason) == (None, None)
    assert (faulty.abort_source, faulty.abort_reason) == (2, 1)


async def test_an_abort_of_the_peers_provider_and_one_of_ours() -> None:
    heard = Heard()
    async with serving(notices=heard.notices) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(VERIFICATION)
            await peer.send(pdu.encode_abort(pdu.Abort(2, 5)))
            theirs = await heard.next(AssociationEnded, 1)
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(VERIFICATION)
            established = await heard.next(AssociationEstablished, 2)
            name = established.caller.association
            assert await server.end_by_hand(name, Caller(association="", address="127.0.0.1"))
            assert await peer.pdu() == pdu.Abort(0, 0)
            ours = await heard.next(AssociationEnded, 2)
        async with calling(server, VERIFY) as association:
            await association.echo()
        released = await heard.next(AssociationEnded, 3)
    assert (theirs.abort_source, theirs.abort_reason) == (2, 5)
    assert (ours.abort_source, ours.abort_reason) == (0, 0)
    assert (released.abort_source, released.abort_reason) == (None, None)


async def test_storing_asking_and_retrieving(tmp_path: Path) -> None:
    heard = Heard()
    paths = write_studies(tmp_path, studies=1, series=1, instances=3)
    async with archive_serving(heard) as (server, _):
        async with calling(server, CT) as association:
            await store(association, paths)
        stored = await heard.next(InstanceStored, 3)
        asked = partial(build_identifier, [("PatientID", "P1")], Level.STUDY)
        async with calling(server, (sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)) as association:
            found = [match async for match in association.find(asked)]
        query = await heard.next(QueryAnswered)
        wanted = partial(build_identifier, [("StudyInstanceUID", f"{ROOT}.1")], Level.STUDY)
        async with calling(server, (sop_classes.STUDY_ROOT_MOVE, BASIC_SYNTAXES)) as association:
            await outcome(association.move(wanted, destination="DEST"))
        sent = await heard.next(InstancesSent)
    assert len(found) == query.matches == 1
    assert query.sop_class_uid == sop_classes.STUDY_ROOT_FIND
    assert query.status == 0
    assert b"P1" in query.identifier
    assert stored.study_instance_uid == f"{ROOT}.1"
    assert (stored.patient_id, stored.patient_name) == ("P1", "Müller^Jörg")
    assert stored.outcome == "stored"
    assert "P1" not in repr(stored)
    assert "P1" not in repr(query)
    assert (sent.command, sent.destination) == ("C-MOVE", "DEST")
    assert sent.studies == {f"{ROOT}.1": 3}
    assert (sent.completed, sent.failed, sent.warning, sent.status) == (3, 0, 0, 0)
    # The destination is this server too: it got each object once more.
    assert [each.outcome for each in heard.of(InstanceStored)[3:]] == ["already stored"] * 3
    commands = [(each.command, each.as_scp) for each in heard.of(OperationEnded)]
    assert commands.count(("C-STORE", True)) == 6
    assert ("C-FIND", True) in commands
    assert ("C-MOVE", True) in commands


async def test_an_object_that_is_refused(tmp_path: Path) -> None:
    (path,) = write_studies(tmp_path, studies=1, series=1, instances=1)
    heard = Heard()
    async with archive_serving(heard) as (server, _), calling(server, CT) as association:
        item = await DicomObject.from_file(path)
        response = await outcome(association.store(replace(item, sop_instance_uid="1.2.3")))
        refused = await heard.next(InstanceRefused)
    assert response.status == refused.status == 0xA900
    assert refused.sop_instance_uid == "1.2.3"
    assert refused.caller.calling_ae_title == "MODALITY"
    assert refused.comment == "SOP Instance UID differs between command and data set"
    assert (refused.study_instance_uid, refused.patient_id) == (f"{ROOT}.1", "P1")
    assert "P1" not in repr(refused)
    assert not heard.of(InstanceStored)


async def test_a_query_tells_its_level_and_time_and_why_it_failed(tmp_path: Path) -> None:
    heard = Heard()
    find = (sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)
    async with archive_serving(heard) as (server, _), calling(server, find) as association:
        for level in (Level.STUDY, Level.SERIES):
            keys = [("StudyInstanceUID", f"{ROOT}.1")]
            wanted = partial(build_identifier, keys, level)
            assert [one async for one in association.find(wanted)] == []
        wanted = partial(build_identifier, [("PatientID", "P1")], Level.PATIENT)
        with pytest.raises(OperationError, match="is none of"):
            _ = [one async for one in association.find(wanted)]
        failed = await heard.next(QueryAnswered, 3)
    study, series, _ = heard.of(QueryAnswered)
    assert [(one.level, one.status, one.comment) for one in (study, series)] == [
        ("STUDY", 0, ""), ("SERIES", 0, ""),
    ]  # fmt: skip
    assert all(one.seconds > 0 for one in (study, series, failed))
    assert (failed.level, failed.status, failed.matches) == ("", 0xA900, 0)
    assert "Query/Retrieve Level (0008,0052) is none of" in failed.comment


async def test_more_than_may_be_retrieved_at_once_is_refused(tmp_path: Path) -> None:
    paths = write_studies(tmp_path, studies=1, series=1, instances=3)
    heard = Heard()
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        get = GetScp(archive, options=QueryOptions(max_suboperations=2))
        async with serving(StorageScp(archive), get, notices=heard.notices) as server:
            async with calling(server, CT) as association:
                await store(association, paths)
            wanted = partial(build_identifier, [("StudyInstanceUID", f"{ROOT}.1")], Level.STUDY)

            async def receive(operation: Operation, request: CStoreRequest) -> int:
                raise AssertionError("nothing may come")

            contexts = ((sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES), CT)
            async with calling(server, *contexts) as association:
                result = await outcome(association.get(wanted, receive))
    assert result.status == 0xA701
    assert "more than 2 instances" in result.comment


async def test_all_that_is_retrieved_at_once_has_a_bound(tmp_path: Path) -> None:
    paths = write_studies(tmp_path, studies=2, series=1, instances=2)
    backlog = RetrieveBacklog(3)
    async with Archive(MemoryStore(), MemoryIndex()) as archive:
        get = GetScp(archive, backlog=backlog)
        async with serving(StorageScp(archive), get) as server:
            contexts = ((sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES), CT)
            async with calling(server, CT) as association:
                await store(association, paths)
            results = {}

            async def retrieve(study: int) -> None:
                asked = partial(
                    build_identifier, [("StudyInstanceUID", f"{ROOT}.{study}")], Level.STUDY
                )
                roles = [CT_IMAGE_STORAGE]
                async with calling(server, *contexts, scp_roles=roles) as association:
                    results[study] = await outcome(association.get(asked, receive))

            async def receive(operation: Operation, request: CStoreRequest) -> int:
                if 2 not in results:
                    assert backlog.count == 2
                    await retrieve(2)
                return 0

            await retrieve(1)
            assert (results[1].status, results[1].completed) == (0, 2)
            assert results[2].status == 0xA701
            assert "ask again later" in results[2].comment
            await retrieve(2)
            assert (results[2].status, results[2].completed) == (0, 2)
    assert backlog.count == 0


async def test_an_operation_without_an_answer_has_no_status() -> None:
    heard = Heard()
    began = trio.Event()
    request = CStoreRequest(
        message_id=1, affected_sop_class_uid=CT_IMAGE_STORAGE, affected_sop_instance_uid="1.2"
    )

    async def never(_: object) -> None:
        began.set()
        await trio.sleep_forever()

    async with serving(Scripted([CT_IMAGE_STORAGE], never), notices=heard.notices) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.associate(CT_IMAGE_STORAGE)
            await peer.send(message_bytes(1, request, b"\x08\x00"))
            with trio.fail_after(60):
                await began.wait()
        await heard.next(AssociationEnded)
    (operation,) = heard.of(OperationEnded)
    assert (operation.command, operation.status) == ("C-STORE", None)


async def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def broken(_: Notice) -> None:
        raise ZeroDivisionError

    notices = Notices(broken, heard.on_notice)
    async with serving(notices=notices) as server, calling(server, VERIFY) as peer:
        await peer.echo()
    assert heard.of(OperationEnded)
    assert "a listener failed on OperationEnded" in caplog.text


def test_a_listener_hears_the_kinds_that_it_asked_for() -> None:
    class Base(WingNotice):
        pass

    class Special(Base):
        pass

    everything, some = [], []
    notices = Notices(everything.append)
    assert notices
    stopped = ServerStopped()
    notices.publish(stopped)
    notices.subscribe(some.append, [Base])
    special = Special()
    notices.publish(special)
    notices.publish(stopped)
    assert everything == [stopped, special, stopped]
    assert some == [special]
