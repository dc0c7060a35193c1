"""pynetdicom's SCUs against `isocenter serve`, and our clients against its qrscp."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_role, evt

from isocenter.engine.uid import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    VERIFICATION,
)
from isocenter.services.archive.index.query import Level
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.objects import DicomObject
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.storage.contexts import contexts_for
from support.corpus import as_we_send_it, by_uid, data_set_bytes, storable_files, syntax_of
from support.five_commands import OurCommands
from support.peers import Names, Site, qrscp, tls_in_front_of
from support.ports import free_port
from support.processes import (
    ServedArchive,
    options_for_tls,
    served_archive,
)
from support.pynetdicom_threads import Checkpoint
from support.studies import CT_IMAGE_STORAGE, ROOT, write_studies

CALLING, DESTINATION = "PYNETDICOM", "DEST"
MOST_CONTEXTS = 128
PENDING, CANCELLED = 0xFF00, 0xFE00

pytestmark = [
    pytest.mark.interop("socat"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


# pynetdicom's SCUs against our server.


class Receiver:
    """A Storage SCP of pynetdicom: what it was sent, as bytes."""

    def __init__(self) -> None:
        self.received: dict[str, bytes] = {}
        self.syntaxes: dict[str, str] = {}

    def store(self, event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.received[uid] = event.request.DataSet.getvalue()
        self.syntaxes[uid] = str(event.context.transfer_syntax)
        return 0


class Modality:
    """pynetdicom, calling a served archive."""

    def __init__(
        self, archive: ServedArchive, names: Names | None, destination: Receiver, sent: list[Path]
    ) -> None:
        self.archive = archive
        self.names = names
        self.destination = destination
        self.sent = sent

    @contextmanager
    def associated(self, *contexts: tuple[str, str], **options: Any) -> Iterator[Any]:
        ae = AE(ae_title=CALLING)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 30
        for abstract_syntax, transfer_syntax in contexts:
            ae.add_requested_context(abstract_syntax, transfer_syntax)
        port = self.archive.port
        if self.names is not None:
            port = self.archive.tls_port or 0
            options["tls_args"] = (_client_context(self.names), "localhost")
        association = ae.associate("127.0.0.1", port, ae_title="ISOCENTER", **options)
        assert association.is_established
        association._reactor_checkpoint = Checkpoint(association)
        try:
            yield association
        finally:
            association.release()
            assert association.is_released


def _client_context(names: Names) -> ssl.SSLContext:
    certificate, key, ca = names
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(ca))
    context.load_cert_chain(certificate, key)
    return context


def _server_context(names: Names) -> ssl.SSLContext:
    certificate, key, ca = names
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


def _kinds(paths: list[Path]) -> list[tuple[str, str]]:
    """SOP class and transfer syntax of each, once."""
    found = {
        (str(pydicom.dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID), syntax_of(path))
        for path in paths
    }
    return sorted((sop_class, str(syntax)) for sop_class, syntax in found)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mutual-tls"])
def modality(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Modality]:
    folder, tls = tmp_path_factory.mktemp("pynetdicom"), request.param
    config = folder / "isocenter.toml"
    port = free_port()
    config.write_text(
        f'peers = [{{ ae_title = "{DESTINATION}", host = "127.0.0.1", port = {port}, '
        f"tls = {str(tls).lower()} }}]\n"
    )
    destination = Receiver()
    with served_archive(folder / "archive", "--config", config, tls=tls) as archive:
        certificates = folder / "certificates"
        certificates.mkdir()
        ae = AE(ae_title=DESTINATION)
        for sop_class in sorted({kind[0] for kind in _kinds(list(storable_files()))}):
            ae.add_supported_context(sop_class, list(sop_classes.TRANSFER_SYNTAXES))
        server = ae.start_server(
            ("127.0.0.1", port),
            block=False,
            evt_handlers=[(evt.EVT_C_STORE, destination.store)],
            ssl_context=_server_context(archive.certificate(DESTINATION, certificates))
            if tls
            else None,
        )
        names = archive.certificate(CALLING, certificates) if tls else None
        modality = Modality(archive, names, destination, list(storable_files()))
        try:
            _store(modality)
            yield modality
        finally:
            server.shutdown()


def _store(modality: Modality) -> None:
    """Every bundled file, its bytes as they are."""
    kinds = _kinds(modality.sent)
    assert len(kinds) <= MOST_CONTEXTS
    as_they_are = _config.STORE_SEND_CHUNKED_DATASET
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        with modality.associated(*kinds) as association:
            statuses = Counter(int(association.send_c_store(path).Status) for path in modality.sent)
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = as_they_are
    assert statuses[0] > 0.8 * len(modality.sent), statuses


def test_echo(modality: Modality) -> None:
    with modality.associated((VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)) as association:
        assert association.send_c_echo().Status == 0


def test_what_was_stored_is_kept_bit_for_bit(modality: Modality) -> None:
    sent = by_uid(modality.sent)
    kept = by_uid(modality.archive.objects())
    assert len(kept) > 0.8 * len(sent)
    for uid, path in kept.items():
        assert syntax_of(path) == syntax_of(sent[uid])
        assert data_set_bytes(path) == data_set_bytes(sent[uid]), uid


@pytest.mark.parametrize("root", [sop_classes.PATIENT_ROOT_FIND, sop_classes.STUDY_ROOT_FIND])
def test_find_at_every_level(modality: Modality, root: str) -> None:
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    levels = dict(zip(("PATIENT", "STUDY", "SERIES", "IMAGE"), names, strict=True))
    if root == sop_classes.STUDY_ROOT_FIND:
        del levels["PATIENT"]
        names = names[1:]
    seen = set()
    with modality.associated((root, EXPLICIT_VR_LITTLE_ENDIAN)) as association:
        for path in modality.archive.objects():
            item = pydicom.dcmread(path, stop_before_pixels=True)
            if not item.get("PatientID"):
                continue
            for level, unique in levels.items():
                keys = {name: item.get(name) for name in names[: names.index(unique) + 1]}
                if (level, str(keys)) in seen:
                    continue
                seen.add((level, str(keys)))
                matches = _find(association, root, level, **keys)
                assert [match.get(unique) for match in matches] == [keys[unique]]
    assert {level for level, _ in seen} == set(levels)


def _find(association: Any, root: str, level: str, **keys: Any) -> list[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(identifier, name, value)
    *pending, (final, _) = association.send_c_find(identifier, root)
    assert final.Status == 0
    assert all(status.Status == PENDING for status, _ in pending)
    return [match for _, match in pending]


def _studies(modality: Modality) -> list[str]:
    return sorted(
        {
            str(pydicom.dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID)
            for path in modality.archive.objects()
        }
    )


def test_get_brings_back_every_object_bit_for_bit(modality: Modality) -> None:
    kept = by_uid(modality.archive.objects())
    kinds = _kinds(list(kept.values()))
    receiver = Receiver()
    completed = 0
    with modality.associated(
        (sop_classes.STUDY_ROOT_GET, EXPLICIT_VR_LITTLE_ENDIAN),
        *kinds,
        ext_neg=[build_role(uid, scp_role=True) for uid in sorted({kind[0] for kind in kinds})],
        evt_handlers=[(evt.EVT_C_STORE, receiver.store)],
    ) as association:
        for study in _studies(modality):
            identifier = Dataset()
            identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", study
            *_, (final, _) = association.send_c_get(identifier, sop_classes.STUDY_ROOT_GET)
            assert final.Status == 0, final
            completed += final.NumberOfCompletedSuboperations
    assert completed == len(kept)
    assert receiver.received.keys() == kept.keys()
    for uid, path in kept.items():
        assert receiver.syntaxes[uid] == syntax_of(path)
        assert receiver.received[uid] == as_we_send_it(path), uid


def test_move_sends_every_object_to_its_destination_bit_for_bit(modality: Modality) -> None:
    kept = by_uid(modality.archive.objects())
    modality.destination.received.clear()
    with modality.associated(
        (sop_classes.STUDY_ROOT_MOVE, EXPLICIT_VR_LITTLE_ENDIAN)
    ) as association:
        for study in _studies(modality):
            identifier = Dataset()
            identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", study
            *pending, (final, _) = association.send_c_move(
                identifier, DESTINATION, sop_classes.STUDY_ROOT_MOVE
            )
            assert final.Status == 0, final
            remaining = [status.NumberOfRemainingSuboperations for status, _ in pending]
            assert remaining == sorted(remaining, reverse=True)
    assert modality.destination.received.keys() == kept.keys()
    for uid, path in kept.items():
        assert modality.destination.received[uid] == as_we_send_it(path), uid


def test_move_to_an_unknown_destination_gets_a801(modality: Modality) -> None:
    with modality.associated(
        (sop_classes.STUDY_ROOT_MOVE, EXPLICIT_VR_LITTLE_ENDIAN)
    ) as association:
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2"
        ((status, _),) = association.send_c_move(identifier, "NOWHERE", sop_classes.STUDY_ROOT_MOVE)
        assert status.Status == 0xA801


def test_a_cancelled_find_ends_with_fe00_and_the_association_goes_on(modality: Modality) -> None:
    context = (sop_classes.STUDY_ROOT_FIND, EXPLICIT_VR_LITTLE_ENDIAN)
    with modality.associated(context) as association:
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", ""
        # A C-CANCEL may come too late for so few matches: both ends are legal.
        last = None
        for status, _ in association.send_c_find(identifier, context[0], msg_id=7):
            last = int(status.Status)
            if last == PENDING:
                association.send_c_cancel(7, None, context[0])
        assert last in {0, CANCELLED}
        assert _find(association, context[0], "STUDY", StudyInstanceUID="")


# Our clients against pynetdicom's archive.


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "mutual-tls"])
def ours(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OurCommands]:
    folder = tmp_path_factory.mktemp("qrscp")
    site = Site(folder)
    move_port = free_port()
    with ExitStack() as stack:
        archive = stack.enter_context(qrscp(folder / "archive", destinations={"MOVER": move_port}))
        port, security = archive.port, []
        if request.param:
            # qrscp speaks no TLS, and sends what is moved in the clear.
            port = stack.enter_context(tls_in_front_of(port, site.names("QRSCP"), folder))
            security = options_for_tls(site.names("MODALITY"), style="ours")
        commands = OurCommands(
            archive.ae_title,
            port,
            write_studies(folder / "sent"),
            move_port,
            security,
            # qrscp answers once for each instance, and encodes anew what it has stored.
            keeps_bytes=False,
        )
        commands.check_store()
        yield commands


def test_our_echo(ours: OurCommands) -> None:
    ours.check_echo()


def test_our_find(ours: OurCommands) -> None:
    ours.check_find()


def test_our_get(ours: OurCommands, tmp_path: Path) -> None:
    ours.check_get(tmp_path)


def test_our_move(ours: OurCommands, tmp_path: Path) -> None:
    ours.check_move(tmp_path)


def test_our_move_to_an_unknown_destination(ours: OurCommands) -> None:
    ours.check_unknown_destination()


async def test_our_library_does_all_of_it(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "sent", studies=1)
    received: dict[str, bytes] = {}

    async def receive(operation: Operation, request: Any) -> int:
        received[request.affected_sop_instance_uid] = await operation.data_set(1 << 20)
        return 0

    to_send = contexts_for([(CT_IMAGE_STORAGE, EXPLICIT_VR_LITTLE_ENDIAN)])
    with qrscp(tmp_path / "archive") as archive:
        peer = Peer(archive.ae_title, "127.0.0.1", archive.port)
        async with open_association(peer, to_send) as association:
            for path in files:
                assert (await association.store(await DicomObject.from_file(path))).status == 0
        async with open_association(
            peer,
            [
                (VERIFICATION, BASIC_SYNTAXES),
                (sop_classes.STUDY_ROOT_FIND, BASIC_SYNTAXES),
                (sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES),
                *to_send,
            ],
            scp_roles=[CT_IMAGE_STORAGE],
        ) as association:
            assert await association.echo() == 0
            keys = [("StudyInstanceUID", f"{ROOT}.1")]
            found = [
                match
                async for match in association.find(
                    lambda syntax: build_identifier(keys, Level.STUDY, syntax)
                )
            ]
            # qrscp answers once for each instance.
            assert {str(match.StudyInstanceUID) for match in found} == {f"{ROOT}.1"}
            result = await association.get(
                lambda syntax: build_identifier(keys, Level.STUDY, syntax), receive
            )
            assert (result.status, result.completed, result.failed) == (0, len(files), 0)
    assert received.keys() == by_uid(files).keys()
