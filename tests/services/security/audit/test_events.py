"""Every event, by what real peers do to a real server, as the trail then has it."""

from __future__ import annotations

import base64
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pydicom
import pytest
import trio

from isocenter.engine.dimse.message_codec import CEchoRequest, CStoreRequest, CStoreResponse
from isocenter.engine.errors import AssociationRejectedError
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import composition
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deletion.records import (
    DeletedStudy,
    DeletionCause,
    InstancesDeleted,
)
from isocenter.services.archive.index.query import Level
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.requestor import Context
from isocenter.services.association.server import ListenAddress, Server
from isocenter.services.composition.audit import audit_folder, open_audit
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import OperationError
from isocenter.services.net.tls.contexts import TlsFiles, server_context
from isocenter.services.notices import (
    AccessDenied,
    AssociationEnded,
    AssociationEstablished,
    AssociationOutcome,
    Caller,
    ConfigurationReloaded,
    ConnectionRefused,
    Notices,
    PluginOperationEnded,
    PluginStarted,
    RefusalReason,
)
from isocenter.services.security.audit.message_builder import LONGEST_QUERY
from isocenter.services.security.audit.recorder import AuditRecorder
from isocenter.services.security.audit.trail_verification import verify
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.service_classes.client import ClientAssociation, open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from services.security.audit.trails import (
    audited_object,
    detail,
    messages,
    of_event,
    participant,
)
from support.outcomes import outcome
from support.serving import Scripted, port_of, serving
from support.studies import CT_IMAGE_STORAGE, ROOT, instance, write_studies

CT: Context = (CT_IMAGE_STORAGE, (EXPLICIT_VR_LITTLE_ENDIAN,))
FIND: Context = (sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES)


class Running:
    """A server with an audit trail."""

    def __init__(
        self,
        settings: Settings,
        server: Server,
        archive: Archive,
        auditor: AuditRecorder,
        notices: Notices,
    ) -> None:
        self.settings = settings
        self.server = server
        self.archive = archive
        self.auditor = auditor
        self.notices = notices
        self.folder = audit_folder(settings)

    async def recorded(self, code: str, kind: str = "", count: int = 1) -> list[Any]:
        """The messages of an event, once there are so many; all by the schema."""
        with trio.fail_after(60):
            while len(found := of_event(messages(self.folder), code, kind)) < count:
                await self.auditor.writer.written.wait()
        return found

    def calling(self, *contexts: Context, **options: Any) -> Any:
        peer = Peer("ISOCENTER", "127.0.0.1", port_of(self.server))
        return open_association(peer, contexts, calling_ae_title="MODALITY", **options)


@asynccontextmanager
async def audited(folder: Path, *services: Any, **options: Any) -> AsyncIterator[Running]:
    overrides = {"storage.data_dir": str(folder / "data"), **options.pop("settings", {})}
    settings = load_settings(environ={}, overrides=overrides)
    notices = Notices()
    async with (
        composition.open_archive_parts(settings) as parts,
        open_audit(settings, parts.archive, notices, None) as auditor,
    ):
        assert auditor is not None
        registry = composition.build_services(settings, parts.archive, parts.stores, None)
        async with serving(*registry.services, *services, notices=notices, **options) as server:
            yield Running(settings, server, parts.archive, auditor, notices)


def asking(**keys: str) -> Callable[[str], bytes]:
    """An identifier at study level."""
    return partial(build_identifier, list(keys.items()), Level.STUDY)


async def store(association: ClientAssociation, paths: list[Path]) -> None:
    for path in paths:
        response = await outcome(association.store(await DicomObject.from_file(path)))
        # The warnings of an archive that keeps what it has, or what names another patient.
        assert response.status in (0, 0xB000, 0xB007)


def check_us(element: Any) -> None:
    assert element.get("UserID") == str(os.getpid())
    assert element.get("AlternativeUserID") == "AETITLES=ISOCENTER"
    assert element.get("NetworkAccessPointTypeCode") == "1"


def check_modality(element: Any, *, is_requestor: bool = True) -> None:
    assert element.get("AlternativeUserID") == "AETITLES=MODALITY"
    assert element.get("NetworkAccessPointID") == "127.0.0.1"
    assert element.get("NetworkAccessPointTypeCode") == "2"
    assert element.get("UserIsRequestor") == ("true" if is_requestor else "false")


async def test_application_activity(tmp_path: Path) -> None:
    async with audited(tmp_path) as running:
        (start,) = await running.recorded("110100", "110120")
        running.server.stop()
        await running.server.stopped.wait()
        folder = running.folder
    (stop,) = of_event(messages(folder), "110100", "110121")
    for message in (start, stop):
        assert message.find("EventIdentification").get("EventActionCode") == "E"
        check_us(participant(message, "110150"))
        assert participant(message, "110151").get("UserIsRequestor") == "true"
    assert verify(folder).is_good


async def test_instances_received_are_one_message_for_each_study(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=2, series=2, instances=3)
    async with audited(tmp_path) as running:
        async with running.calling(CT) as association:
            await store(association, files)
        created = await running.recorded("110104", count=2)
        assert len(created) == 2
        async with running.calling(CT) as association:
            await store(association, files[:1])
        *_, again = await running.recorded("110104", count=3)
    for number, message in enumerate(created, 1):
        event = message.find("EventIdentification")
        assert (event.get("EventActionCode"), event.get("EventOutcomeIndicator")) == ("C", "0")
        check_modality(participant(message, "110153"))
        # An AE title in the clear proves nothing.
        assert participant(message, "110153").get("UserName") == "anonymous"
        check_us(participant(message, "110152"))
        study = audited_object(message, "110180")
        assert study.get("ParticipantObjectID") == f"{ROOT}.{number}"
        (sop_class,) = study.iter("SOPClass")
        assert dict(sop_class.attrib) == {"UID": CT_IMAGE_STORAGE, "NumberOfInstances": "6"}
        assert study.findtext("ParticipantObjectDescription/Encrypted") == "false"
        patient = audited_object(message, "2")
        assert patient.get("ParticipantObjectID") == "P1"
        assert patient.findtext("ParticipantObjectName") == "Müller^Jörg"
    # What was there already was only read.
    assert again.find("EventIdentification").get("EventActionCode") == "R"


async def test_two_patients_in_one_study_are_two_messages(tmp_path: Path) -> None:
    paths = []
    for number, patient in enumerate(("P1", "P2"), 1):
        path = tmp_path / f"{number}.dcm"
        instance(1, 1, number, patient=patient).save_as(path, enforce_file_format=True)
        paths.append(path)
    async with audited(tmp_path) as running:
        async with running.calling(CT) as association:
            await store(association, paths)
        found = await running.recorded("110104", count=2)
    patients = {audited_object(each, "2").get("ParticipantObjectID") for each in found}
    assert patients == {"P1", "P2"}


async def test_an_object_that_takes_the_place_of_another_is_an_update(tmp_path: Path) -> None:
    first, second = instance(), instance()
    second.StudyDescription = "changed"
    first.save_as(tmp_path / "1.dcm", enforce_file_format=True)
    second.save_as(tmp_path / "2.dcm", enforce_file_format=True)
    options = {"storage.duplicates": "replace"}
    async with audited(tmp_path, settings=options) as running:
        async with running.calling(CT) as association:
            await store(association, [tmp_path / "1.dcm", tmp_path / "2.dcm"])
        found = await running.recorded("110104", count=2)
    actions = [each.find("EventIdentification").get("EventActionCode") for each in found]
    assert sorted(actions) == ["C", "U"]


async def test_a_query(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=2, series=1, instances=1)
    keys = asking(PatientName="M*", StudyInstanceUID="")
    async with audited(tmp_path) as running:
        async with running.calling(CT, FIND) as association:
            await store(association, files)
            found = [match async for match in association.find(keys)]
            syntax = next(
                each.transfer_syntax
                for each in association.contexts
                if each.abstract_syntax == FIND[0]
            )
        (message,) = await running.recorded("110112")
    assert len(found) == 2
    event = message.find("EventIdentification")
    assert (event.get("EventActionCode"), event.get("EventOutcomeIndicator")) == ("E", "0")
    check_modality(participant(message, "110153"))
    check_us(participant(message, "110152"))
    asked = audited_object(message, "110181")
    assert asked.get("ParticipantObjectID") == FIND[0]
    assert asked.get("ParticipantObjectTypeCodeRole") == "3"
    assert detail(asked, "TransferSyntax") == syntax.encode()
    assert detail(asked, "NumberOfMatches") == b"2"
    sent = base64.b64decode(asked.findtext("ParticipantObjectQuery"))
    read = pydicom.dcmread(
        pydicom.filebase.DicomBytesIO(sent), force=True, specific_tags=["PatientName"]
    )
    assert str(read.PatientName) == "M*"


async def test_a_query_beyond_the_bound_is_cut_and_measured(tmp_path: Path) -> None:
    uids = "\\".join(f"{ROOT}.{number}" for number in range(4_000))
    keys = asking(StudyInstanceUID=uids)
    async with audited(tmp_path) as running:
        async with running.calling(FIND) as association:
            assert [match async for match in association.find(keys)] == []
        (message,) = await running.recorded("110112")
    asked = audited_object(message, "110181")
    assert len(base64.b64decode(asked.findtext("ParticipantObjectQuery"))) == LONGEST_QUERY
    assert int(detail(asked, "QueryLength")) > LONGEST_QUERY
    assert len(detail(asked, "QuerySHA256")) == 64


async def test_a_c_get(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=2, series=1, instances=3)
    get: Context = (sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES)
    keys = asking(StudyInstanceUID=f"{ROOT}.1")
    async with audited(tmp_path) as running:
        async with running.calling(CT) as association:
            await store(association, files)
        async with running.calling(CT, get, scp_roles=[CT_IMAGE_STORAGE]) as association:
            await outcome(association.get(keys, _swallow))
        (begin,) = await running.recorded("110102")
        found = await running.recorded("110104", count=3)
    transferred = next(
        each
        for each in found
        if participant(each, "110153").get("AlternativeUserID") == "AETITLES=ISOCENTER"
    )
    assert begin.find("EventIdentification").get("EventActionCode") == "E"
    assert transferred.find("EventIdentification").get("EventActionCode") == "R"
    for message in (begin, transferred):
        check_us(participant(message, "110153"))
        check_modality(participant(message, "110152"))
        study = audited_object(message, "110180")
        assert study.get("ParticipantObjectID") == f"{ROOT}.1"
        (sop_class,) = study.iter("SOPClass")
        assert dict(sop_class.attrib) == {"UID": CT_IMAGE_STORAGE, "NumberOfInstances": "3"}
        assert audited_object(message, "2").get("ParticipantObjectID") == "P1"
        assert audited_object(message, "2").findtext("ParticipantObjectName") == "Müller^Jörg"


async def _swallow(operation: Operation, _: CStoreRequest) -> int:
    async for _ in operation.fragments():
        pass
    return 0


async def test_what_a_c_get_could_not_send_is_a_message_of_its_own(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=2, series=1, instances=2)
    get: Context = (sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES)
    keys = asking(StudyInstanceUID=f"{ROOT}.1\\{ROOT}.2")
    async with audited(tmp_path) as running:
        async with running.calling(CT) as association:
            await store(association, files)
        await running.recorded("110104", count=2)
        (lost,) = (tmp_path / "data" / "objects").rglob(f"*{ROOT}.2.1.1*.dcm")
        lost.unlink()
        async with running.calling(CT, get, scp_roles=[CT_IMAGE_STORAGE]) as association:
            await outcome(association.get(keys, _swallow))
        found = (await running.recorded("110104", count=5))[2:]
    told = {
        (
            audited_object(each, "110180").get("ParticipantObjectID"),
            each.find("EventIdentification").get("EventOutcomeIndicator"),
            next(each.iter("SOPClass")).get("NumberOfInstances"),
        )
        for each in found
    }
    assert told == {(f"{ROOT}.1", "0", "2"), (f"{ROOT}.2", "0", "1"), (f"{ROOT}.2", "4", "1")}


async def test_a_c_move(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=3)
    move: Context = (sop_classes.STUDY_ROOT_MOVE, BASIC_SYNTAXES)
    keys = asking(StudyInstanceUID=f"{ROOT}.1")
    async with serving(Scripted([CT_IMAGE_STORAGE], _accept)) as destination:
        peer = f"DEST@127.0.0.1:{port_of(destination)}"
        async with audited(tmp_path, settings={"peers": [peer]}) as running:
            async with running.calling(CT, move) as association:
                await store(association, files)
                await outcome(association.move(keys, "DEST"))
            (begin,) = await running.recorded("110102")
            sent = await running.recorded("110104", count=2)
    transferred = next(
        each
        for each in sent
        if participant(each, "110152").get("AlternativeUserID") == "AETITLES=DEST"
    )
    for message in (begin, transferred):
        check_us(participant(message, "110153"))
        got = participant(message, "110152")
        assert (got.get("UserID"), got.get("NetworkAccessPointID")) == ("DEST", "127.0.0.1")
        (requestor,) = [
            each
            for each in message.findall("ActiveParticipant")
            if each.get("UserIsRequestor") == "true"
        ]
        check_modality(requestor)
        (sop_class,) = audited_object(message, "110180").iter("SOPClass")
        assert sop_class.get("NumberOfInstances") == "3"
        assert audited_object(message, "2").get("ParticipantObjectID") == "P1"


async def _accept(operation: Operation) -> None:
    request = operation.request
    assert isinstance(request, CStoreRequest)
    async for _ in operation.fragments():
        pass
    await operation.respond(
        CStoreResponse(
            message_id_being_responded_to=request.message_id,
            status=0,
            affected_sop_class_uid=request.affected_sop_class_uid,
            affected_sop_instance_uid=request.affected_sop_instance_uid,
        )
    )


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (AeTitleRules(allow=("CT*",)), b"calling AE title 'MODALITY' is not on the list"),
        (AeTitleRules(ae_titles=frozenset({"OTHER"})), b"called AE title 'ISOCENTER' is not ours"),
    ],
)
async def test_a_peer_that_is_not_admitted(
    tmp_path: Path, policy: AeTitleRules, text: bytes
) -> None:
    async with audited(tmp_path, access=policy) as running:
        for _ in range(3):
            with pytest.raises(AssociationRejectedError):
                async with running.calling(CT):
                    pass
        (message,) = await running.recorded("110113", "110126")
        folder = running.folder
    assert message.find("EventIdentification").get("EventOutcomeIndicator") == "4"
    us, peer = message.findall("ActiveParticipant")
    check_us(us)
    check_modality(peer, is_requestor=False)
    node = audited_object(message, "110182")
    assert node.get("ParticipantObjectID") == "127.0.0.1"
    assert detail(node, "Alert Description").startswith(text)
    # The other two together, at the latest when the server stops.
    _, more = of_event(messages(folder), "110113", "110126")
    assert detail(audited_object(more, "110182"), "Occurrences") == b"2"


async def say(stream: trio.abc.Stream) -> None:
    """The refusal of TLS 1.3 comes after our own handshake."""
    await stream.send_all(b"x")
    await stream.receive_some(1)


async def test_a_tls_handshake_that_fails(tmp_path: Path) -> None:
    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    for folder in (ours, foreign):
        CertificateAuthority.create(folder).issue("x", hosts=["127.0.0.1"], folder=folder)
    files = TlsFiles(certificate=ours / "x.crt", key=ours / "x.key", ca=ours / "ca.crt")
    tls = server_context(files)
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: tls)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.load_cert_chain(foreign / "x.crt", foreign / "x.key")
    async with audited(tmp_path, addresses=[bind]) as running:
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(running.server, tls=True))
        secure = trio.SSLStream(stream, client, server_hostname="127.0.0.1")
        with pytest.raises(trio.BrokenResourceError):
            await say(secure)
        await trio.aclose_forcefully(stream)
        (message,) = await running.recorded("110113", "110126")
    node = audited_object(message, "110182")
    assert detail(node, "Alert Description").startswith(b"TLS handshake failed: ")


async def test_an_address_that_is_not_served(tmp_path: Path) -> None:
    """As of somebody who orders by HL7 and is none of `hl7.senders`."""
    refused = ConnectionRefused(
        address="10.0.0.66:4711", refusal=RefusalReason.ADDRESS, detail="is not served"
    )
    async with audited(tmp_path) as running:
        running.notices.publish(refused)
        (message,) = await running.recorded("110113", "110126")
    node = audited_object(message, "110182")
    assert node.get("ParticipantObjectID") == "10.0.0.66"


async def test_an_operation_that_is_denied_and_a_configuration_that_changes(
    tmp_path: Path,
) -> None:
    """Told by those who decide; the archive itself does not yet."""

    async def deny(operation: Operation) -> None:
        running.notices.publish(
            AccessDenied(
                caller=operation.association.caller,
                command="C-ECHO",
                sop_class_uid=CT_IMAGE_STORAGE,
                why="has no role that may",
            )
        )
        raise OperationError(0x0124)

    async with audited(tmp_path, Scripted([CT_IMAGE_STORAGE], deny)) as running:
        async with running.calling(CT) as association:
            request = CEchoRequest(message_id=1, affected_sop_class_uid=CT_IMAGE_STORAGE)
            response = await association.invoke(1, request, None)
            assert response.message.status == 0x0124
        running.notices.publish(ConfigurationReloaded(what="certificates"))
        running.notices.publish(ConfigurationReloaded(what="peers", fault="line 3"))
        (denied,) = await running.recorded("110113", "110132")
        (certificates,) = await running.recorded("110113", "110129")
        (peers,) = await running.recorded("110113", "110128")
    check_modality(denied.findall("ActiveParticipant")[1], is_requestor=False)
    text = detail(audited_object(denied, "110182"), "Alert Description")
    assert text == f"C-ECHO of {CT_IMAGE_STORAGE}: has no role that may".encode()
    outcomes = [
        each.find("EventIdentification").get("EventOutcomeIndicator")
        for each in (certificates, peers)
    ]
    assert outcomes == ["0", "4"]
    assert b"line 3" in detail(audited_object(peers, "12"), "Alert Description")


@pytest.mark.parametrize(
    ("remaining", "person", "code"),
    [(0, "", "110105"), (2, "", "110103"), (0, "anna@pacs1", "110105")],
)
async def test_objects_that_are_deleted(
    tmp_path: Path, remaining: int, person: str, code: str
) -> None:
    study = DeletedStudy(
        study_instance_uid=f"{ROOT}.7",
        accession_number="A7",
        sop_classes={CT_IMAGE_STORAGE: 3},
        remaining=remaining,
        patient_id="P7",
        patient_name="Seven^Test",
    )
    cause = DeletionCause.COMMITTED_ELSEWHERE
    async with audited(tmp_path) as running:
        running.notices.publish(InstancesDeleted(study=study, cause=cause, person=person))
        (message,) = await running.recorded(code)
    identification = message.find("EventIdentification")
    assert identification.get("EventActionCode") == "D"
    assert identification.find("EventOutcomeDescription").text == "committed elsewhere"
    requestors = [
        each.get("UserID")
        for each in message.findall("ActiveParticipant")
        if each.get("UserIsRequestor") == "true"
    ]
    assert requestors == [person or str(os.getpid())]
    of_study = audited_object(message, "110180")
    assert of_study.get("ParticipantObjectID") == f"{ROOT}.7"
    assert [each.get("NumberOfInstances") for each in of_study.iter("SOPClass")] == ["3"]
    assert audited_object(message, "2").get("ParticipantObjectID") == "P7"


@pytest.mark.parametrize(
    ("command", "status", "action", "outcome"),
    [
        ("N-GET", 0, "R", "0"),
        ("N-SET", 0xB305, "U", "0"),
        ("N-ACTION", 0x0110, "E", "4"),
        ("N-CREATE", None, "C", "4"),
    ],
)
@pytest.mark.parametrize("studies", [(), (f"{ROOT}.7", f"{ROOT}.8")])
async def test_what_a_plugin_performs(
    tmp_path: Path,
    command: str,
    status: int | None,
    action: str,
    outcome: str,
    studies: tuple[str, ...],
) -> None:
    ended = PluginOperationEnded(
        caller=Caller(association="a", address="10.1.2.3:104", calling_ae_title="WS7"),
        plugin="notes",
        command=command,
        sop_class_uid="2.25.77",
        sop_instance_uid="1.2.3",
        status=status,
        studies=studies,
    )
    async with audited(tmp_path) as running:
        running.notices.publish(ended)
        told = await running.recorded("110103", count=len(studies) or 1)
    for message, study in zip(told, studies or ("",), strict=True):
        identification = message.find("EventIdentification")
        assert identification.get("EventActionCode") == action
        assert identification.get("EventOutcomeIndicator") == outcome
        said = identification.find("EventOutcomeDescription").text
        assert said.startswith(f"{command} by the plug-in notes")
        (caller, _) = message.findall("ActiveParticipant")
        assert (caller.get("UserID"), caller.get("UserIsRequestor")) == ("WS7", "true")
        assert audited_object(message, "110181").get("ParticipantObjectID") == "2.25.77"
        if study:
            assert audited_object(message, "110180").get("ParticipantObjectID") == study


async def test_a_plugin_that_serves(tmp_path: Path) -> None:
    async with audited(tmp_path) as running:
        running.notices.publish(PluginStarted(name="notes", distribution="acme", version="1.2"))
        (message,) = await running.recorded("110113")
    kind = message.find("EventIdentification/EventTypeCode")
    assert kind.get("csd-code") == "110131"
    (subject,) = message.findall("ParticipantObjectIdentification")
    assert subject.get("ParticipantObjectID") == "urn:isocenter:configuration:plugin:notes"
    assert detail(subject, "Alert Description") == b"the plug-in notes serves: acme 1.2"


async def test_a_user_who_proves_who_he_is(tmp_path: Path) -> None:
    caller = Caller(
        association="a", address="[fe80::1]:104", calling_ae_title="MODALITY", user="anna"
    )
    async with audited(tmp_path) as running:
        running.notices.publish(
            AssociationEstablished(caller=caller, contexts_proposed=1, contexts_accepted=1)
        )
        running.notices.publish(
            AssociationEnded(
                caller=caller,
                ending=AssociationOutcome.RELEASED,
                why="",
                seconds=1,
                bytes_received=0,
                bytes_sent=0,
            )
        )
        (login,) = await running.recorded("110114", "110122")
        (logout,) = await running.recorded("110114", "110123")
    for message in (login, logout):
        user, us = message.findall("ActiveParticipant")
        assert (user.get("UserID"), user.get("NetworkAccessPointID")) == ("anna", "fe80::1")
        check_us(us)


SWITCHES: dict[str, Callable[[Any], Any]] = {
    "storage": lambda root: of_event([root], "110104"),
    "query": lambda root: of_event([root], "110112"),
    "security_alerts": lambda root: of_event([root], "110113"),
}


@pytest.mark.parametrize("switch", SWITCHES)
async def test_what_is_switched_off_is_not_recorded(tmp_path: Path, switch: str) -> None:
    files = write_studies(tmp_path / "in", studies=1, series=1, instances=1)
    keys = asking(StudyInstanceUID="")
    access = AeTitleRules(allow=("MODALITY",))
    async with audited(tmp_path, access=access, settings={f"audit.{switch}": "off"}) as running:
        async with running.calling(CT, FIND) as association:
            await store(association, files)
            assert [match async for match in association.find(keys)]
        peer = Peer("ISOCENTER", "127.0.0.1", port_of(running.server))
        with pytest.raises(AssociationRejectedError):
            async with open_association(peer, [CT], calling_ae_title="OTHER"):
                pass
        folder = running.folder
    found = messages(folder)
    for name, is_of in SWITCHES.items():
        assert any(map(is_of, found)) == (name != switch), name


async def test_an_echo_leaves_no_record(tmp_path: Path) -> None:
    async with audited(tmp_path) as running:
        async with running.calling((VERIFICATION, (EXPLICIT_VR_LITTLE_ENDIAN,))) as association:
            await association.echo()
        folder = running.folder
    assert {
        each.find("EventIdentification/EventID").get("csd-code") for each in messages(folder)
    } == {"110100"}
