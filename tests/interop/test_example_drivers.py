"""The drivers in examples/: with DCMTK, with each other, with our server, and with bad peers."""

from __future__ import annotations

import importlib.util
import select
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pynetdicom import (
    AE,
    ALL_TRANSFER_SYNTAXES,
    AllStoragePresentationContexts,
    evt,
)

from isocenter.engine import commands, pdu
from isocenter.engine.dataset import read_file_meta, write_file_meta
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CStoreRequest,
    CStoreResponse,
    Message,
    decode_message,
    encode_message,
)
from isocenter.engine.dimse.status import Status
from isocenter.engine.limits import DEFAULT_LIMITS
from isocenter.engine.negotiation import (
    Acceptor,
    Offer,
    Role,
    associate_request,
    negotiate,
    negotiated_from,
)
from isocenter.engine.pdv import encode_fragments
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from support.corpus import DCMTK_OPTIONS, by_uid, data_set_bytes, syntax_of
from support.peers import dcmqrscp
from support.ports import free_port
from support.processes import (
    program,
    run,
    served_archive,
    wait_for_line,
    wait_for_port,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCUS = ("blocking_scu.py", "asyncio_scu.py", "anyio_scu.py")
SCPS = ("asyncio_scp.py", "selectors_scp.py")
#: As ``-X dev`` does, but for asyncio's debug mode: that one tells what took a tenth of a second.
WARNING = ("-W", "default", "-X", "faulthandler")
PEERS = (*SCPS, "storescp", "dcmqrscp", "pynetdicom", "isocenter serve")
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
RECEIVE_SECONDS = 60.0
RECEIVE_LENGTH = 65_536

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
needs_dcmtk = pytest.mark.interop("echoscu", "storescu", "storescp", "dcmqrscp")

UNCOMPRESSED = [Path(str(get_testdata_file(name))) for name in ("CT_small.dcm", "MR_small.dcm")]
COMPRESSED = [Path(str(get_testdata_file(name))) for name in ("JPEG2000.dcm", "SC_rgb_rle.dcm")]


def command(name: str, *arguments: object, limits: str = "", **deadlines: float) -> list[object]:
    """An example as a program; with other *deadlines* and *limits* than it has."""
    if not deadlines and not limits:
        return [sys.executable, *WARNING, EXAMPLES / name, *arguments]
    script = (
        "import sys, dataclasses; sys.path.insert(0, sys.argv.pop(1))\n"
        f"import {name.removesuffix('.py')} as module\n"
        f"module.DEADLINES = dataclasses.replace(module.DEADLINES, **{deadlines})\n"
        f"{limits}\n"
        "sys.exit(module.main())"
    )
    return [sys.executable, *WARNING, "-c", script, EXAMPLES, *arguments]


def load(name: str) -> ModuleType:
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Peer(NamedTuple):
    """Somebody that stores: where, as whom, and the folder it stores into."""

    ae_title: str
    port: int
    folder: Path
    takes_compressed: bool
    log: Path


@contextmanager
def example_scp(name: str, folder: Path, limits: str = "", **deadlines: float) -> Iterator[Peer]:
    received, log = folder / "received", folder / "scp.log"
    folder.mkdir(parents=True, exist_ok=True)
    line = command(name, received, "--port", 0, limits=limits, **deadlines)
    with program(*line, log=log) as process:
        port = int(wait_for_line(process, r"^ready 127\.0\.0\.1:(\d+)$", log)[1])
        yield Peer("ANY-SCP", port, received, True, log)


@contextmanager
def pynetdicom_scp(folder: Path) -> Iterator[Peer]:
    """A Storage SCP of pynetdicom, in threads of ours."""
    received = folder / "received"
    received.mkdir(parents=True)

    def store(event: evt.Event) -> int:
        (received / f"{event.request.AffectedSOPInstanceUID}.dcm").write_bytes(
            event.encoded_dataset()
        )
        return 0x0000

    ae = AE()
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    ae.add_supported_context(VERIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield Peer("ANY-SCP", server.server_address[1], received, True, folder / "no.log")
    finally:
        server.shutdown()


@contextmanager
def storescp(folder: Path) -> Iterator[Peer]:
    received, log = folder / "received", folder / "scp.log"
    received.mkdir(parents=True)
    port = free_port()
    with program("storescp", "+B", "+xa", "-od", received, port, log=log) as process:
        wait_for_port(process, port, log)
        yield Peer("STORESCP", port, received, True, log)


@contextmanager
def started(name: str, folder: Path) -> Iterator[Peer]:
    match name:
        case "asyncio_scp.py" | "selectors_scp.py":
            with example_scp(name, folder) as peer:
                yield peer
        case "pynetdicom":
            with pynetdicom_scp(folder) as peer:
                yield peer
        case "storescp":
            with storescp(folder) as peer:
                yield peer
        case "dcmqrscp":
            with dcmqrscp(folder) as archive:
                yield Peer(archive.ae_title, archive.port, archive.folder, False, archive.log)
        case _:
            with served_archive(folder) as served:
                objects = served.data_dir / "objects"
                yield Peer(served.ae_title, served.port, objects, True, served.log)


@pytest.fixture(scope="module", params=SCPS)
def scp(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """An SCP example; at the end it has neither failed nor left anything unfinished."""
    with example_scp(request.param, tmp_path_factory.mktemp("scp")) as peer:
        yield peer
        done = run(*command(SCUS[0], "127.0.0.1", peer.port))
        assert done.returncode == 0, done.stdout
    log = peer.log.read_text()
    assert "Traceback" not in log, log
    assert list(peer.folder.glob(".incoming-*")) == []
    assert sorted(path.name for path in peer.folder.parent.iterdir()) == ["received", "scp.log"]


def stored_in(folder: Path) -> dict[str, Path]:
    return by_uid(
        [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size and _is_part_10(p)]
    )


def elements(path: Path) -> dict[int, object]:
    """The values of a file, without the lengths and paddings that some programs leave out."""
    read = pydicom.dcmread(path)
    return {int(e.tag): e.value for e in read if e.tag.element and e.tag != 0xFFFCFFFC}


def _is_part_10(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


# Good peers.


@needs_dcmtk
@pytest.mark.parametrize("peer_name", PEERS)
@pytest.mark.parametrize("scu", SCUS)
def test_the_SCUs_verify_and_store(scu: str, peer_name: str, tmp_path: Path) -> None:
    with started(peer_name, tmp_path / "peer") as peer:
        files = UNCOMPRESSED + (COMPRESSED if peer.takes_compressed else [])
        line = command(scu, "127.0.0.1", peer.port, *files, "--called", peer.ae_title)
        done = run(*line)
        assert done.returncode == 0, done.stdout
        first, *others = done.stdout.splitlines()
        assert first == "C-ECHO: 0000H success"
        # Several at once end in any order.
        assert sorted(others) == sorted(f"C-STORE {path}: 0000H success" for path in files)
        stored = stored_in(peer.folder)
    assert set(stored) == set(by_uid(files))
    assert len(stored) == len(files)
    for uid, path in by_uid(files).items():
        assert syntax_of(stored[uid]) == syntax_of(path)
        if peer_name == "dcmqrscp":  # writes data sets anew
            assert elements(stored[uid]) == elements(path)
        else:
            assert data_set_bytes(stored[uid]) == data_set_bytes(path)


@pytest.mark.parametrize("length", [0, 262_144, 3_000_002])
@pytest.mark.parametrize("scu", SCUS)
def test_a_data_set_of_any_length_arrives_as_it_was(
    scp: Peer, scu: str, length: int, tmp_path: Path
) -> None:
    """In no, one, and many parts; neither side looks into it."""
    uid = f"1.2.3.{SCUS.index(scu)}.{length}"
    data_set = (bytes(range(256)) * (length // 256 + 1))[:length]
    path = tmp_path / "object.dcm"
    path.write_bytes(write_file_meta(CT_IMAGE_STORAGE, uid, IMPLICIT_VR_LITTLE_ENDIAN) + data_set)
    done = run(*command(scu, "127.0.0.1", scp.port, path))
    assert done.returncode == 0, done.stdout
    stored = (scp.folder / f"{uid}.dcm").read_bytes()
    meta = read_file_meta(stored)
    assert stored[meta.data_set_offset :] == data_set
    assert (meta.media_storage_sop_class_uid, meta.media_storage_sop_instance_uid) == (
        CT_IMAGE_STORAGE,
        uid,
    )
    assert meta.transfer_syntax_uid == IMPLICIT_VR_LITTLE_ENDIAN


@needs_dcmtk
def test_DCMTK_verifies_with_the_SCP(scp: Peer) -> None:
    done = run("echoscu", "-v", "--repeat", 3, "127.0.0.1", scp.port)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Received Echo Response (Success)") == 3


@needs_dcmtk
@pytest.mark.parametrize("path", UNCOMPRESSED + COMPRESSED, ids=lambda path: path.stem)
def test_DCMTK_stores_with_the_SCP(scp: Peer, path: Path) -> None:
    done = run("storescu", "-v", "-R", DCMTK_OPTIONS[syntax_of(path)], "127.0.0.1", scp.port, path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("Received Store Response (Success)") == 1, done.stdout
    (uid,) = by_uid([path])
    stored = scp.folder / f"{uid}.dcm"
    assert stored.stat().st_mode & 0o077 == 0
    assert syntax_of(stored) == syntax_of(path)
    assert elements(stored) == elements(path)


@needs_dcmtk
def test_DCMTK_aborting_leaves_no_trace_at_the_SCP(scp: Peer) -> None:
    done = run("echoscu", "--abort", "127.0.0.1", scp.port)
    assert done.returncode == 0, done.stdout
    done = run("storescu", "--abort", "-xe", "127.0.0.1", scp.port, UNCOMPRESSED[0])
    assert done.returncode == 0, done.stdout


# The SCP and peers that are not good.


def request_bytes() -> bytes:
    return pdu.encode_associate_request(
        associate_request(
            "ANY-SCP",
            "HOSTILE",
            [(uid, [IMPLICIT_VR_LITTLE_ENDIAN]) for uid in (VERIFICATION, CT_IMAGE_STORAGE)],
        )
    )


def p_data(context_id: int, message: Message | bytes, *, more: bool = False) -> bytes:
    """A command set (with a data set to follow when *more*), or a data set (*more* of it)."""
    is_command = not isinstance(message, bytes)
    data = message if isinstance(message, bytes) else encode_message(message, more)
    return b"".join(
        encode_fragments(
            context_id,
            data,
            is_command=is_command,
            is_last=is_command or not more,
            max_length=16_384,
        )
    )


ECHO = p_data(1, CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION))


def store(uid: str) -> bytes:
    request = CStoreRequest(
        message_id=7, affected_sop_class_uid=CT_IMAGE_STORAGE, affected_sop_instance_uid=uid
    )
    return p_data(3, request, more=True)


def answers_of(peer: Peer, *writes: bytes, read_after: int = 1) -> bytes:
    """All that the peer sends until it closes; *read_after* writes wait for an answer first."""
    with socket.create_connection(("127.0.0.1", peer.port), RECEIVE_SECONDS) as sock:
        received = b""
        for number, data in enumerate(writes):
            sock.sendall(data)
            if number < read_after:
                received += sock.recv(RECEIVE_LENGTH)
        sock.shutdown(socket.SHUT_WR)
        try:
            while chunk := sock.recv(RECEIVE_LENGTH):
                received += chunk
        except ConnectionResetError:
            pass
        return received


def test_garbage_right_behind_an_A_ASSOCIATE_RQ_is_answered_with_an_A_ABORT(scp: Peer) -> None:
    answer = answers_of(scp, request_bytes() + b"\xff" * 64)
    assert answer == bytes.fromhex("0700 00000004 0000 02 01")


def test_an_A_ABORT_right_behind_a_request_is_the_end_of_it(scp: Peer) -> None:
    abort = pdu.encode_abort(pdu.Abort(0, 0))
    answer = answers_of(scp, request_bytes(), ECHO + abort)
    assert answer[0] == pdu.PduType.A_ASSOCIATE_AC
    assert len(answer) == int.from_bytes(answer[2:6], "big") + 6


@pytest.mark.parametrize(
    "uid", ["../../escaped", "/tmp/escaped", "..", "1.2.3/../4", "1." + "2" * 80, "1\0.2"]
)
def test_what_is_no_UID_never_becomes_a_file_name(scp: Peer, uid: str) -> None:
    before = sorted(scp.folder.rglob("*"))
    answer = answers_of(scp, request_bytes(), store(uid) + p_data(3, bytes(512)), read_after=2)
    assert bytes.fromhex("00000009 02000000 1701") in answer  # (0000,0900) Status: 0117H
    assert sorted(scp.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("context_id", "message", "status"),
    [
        (3, CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION), 0x0122),
        (3, CFindRequest(message_id=1, affected_sop_class_uid=CT_IMAGE_STORAGE), 0x0211),
        (
            1,
            CStoreRequest(
                message_id=1,
                affected_sop_class_uid=VERIFICATION,
                affected_sop_instance_uid="1.2.3",
            ),
            0x0211,
        ),
        (
            3,
            CStoreRequest(
                message_id=1,
                affected_sop_class_uid=CT_IMAGE_STORAGE,
                affected_sop_instance_uid="1.2.3",
            ),
            0xC000,
        ),
    ],
    ids=["another class", "another operation", "C-STORE to verification", "no data set"],
)
def test_what_is_not_performed_gets_its_status(
    scp: Peer, context_id: int, message: Message, status: int
) -> None:
    answer = answers_of(scp, request_bytes(), p_data(context_id, message), read_after=2)
    element = bytes.fromhex("00000009 02000000") + status.to_bytes(2, "little")
    assert element in answer


@pytest.mark.parametrize("end", [b"", pdu.encode_abort(pdu.Abort(0, 0)), b"\xff" * 6])
def test_half_a_data_set_leaves_no_trace(scp: Peer, end: bytes) -> None:
    before = sorted(scp.folder.rglob("*"))
    half = store("1.2.3.4") + p_data(3, bytes(100_000), more=True)
    answers_of(scp, request_bytes(), half + end)
    assert sorted(scp.folder.rglob("*")) == before


@pytest.mark.parametrize("name", SCPS)
@pytest.mark.parametrize("said", [b"", request_bytes()], ids=["nothing", "A-ASSOCIATE-RQ"])
def test_a_silent_peer_is_ended(name: str, said: bytes, tmp_path: Path) -> None:
    with (
        example_scp(name, tmp_path, association_request=0.2, idle=0.2) as peer,
        socket.create_connection(("127.0.0.1", peer.port), RECEIVE_SECONDS) as sock,
    ):
        sock.sendall(said)
        received = b""
        while chunk := sock.recv(RECEIVE_LENGTH):
            received += chunk
    assert received.endswith(pdu.encode_abort(pdu.Abort(0, 0)) if said else b"")
    assert bool(received) == bool(said)
    assert "Traceback" not in peer.log.read_text()


@pytest.mark.parametrize("name", SCPS)
def test_silence_within_a_data_set_is_ended(name: str, tmp_path: Path) -> None:
    with (
        example_scp(name, tmp_path, association_request=0.2, idle=0.3) as peer,
        socket.create_connection(("127.0.0.1", peer.port), RECEIVE_SECONDS) as sock,
    ):
        sock.sendall(request_bytes())
        received = sock.recv(RECEIVE_LENGTH)
        sock.sendall(store("1.2.3.4") + p_data(3, bytes(100_000), more=True))
        while chunk := sock.recv(RECEIVE_LENGTH):
            received += chunk
        assert received.endswith(pdu.encode_abort(pdu.Abort(0, 0)))
        wait_until(lambda: list(peer.folder.iterdir()) == [])


@pytest.mark.parametrize("name", SCPS)
def test_a_peer_that_reads_nothing_is_closed(name: str, tmp_path: Path) -> None:
    with (
        example_scp(name, tmp_path, write_blocked=0.3) as peer,
        socket.socket() as sock,
    ):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(RECEIVE_SECONDS)
        sock.connect(("127.0.0.1", peer.port))
        sock.sendall(request_bytes())
        sock.recv(RECEIVE_LENGTH)
        with pytest.raises(ConnectionError):  # a sender that is held up: TimeoutError
            flood(sock)
        done = run(*command(SCUS[0], "127.0.0.1", peer.port))
        assert done.returncode == 0, done.stdout
    assert "Traceback" not in peer.log.read_text()


def flood(sock: socket.socket) -> None:
    """Ask and ask, and read no answer, until the peer has closed."""
    while True:
        sock.sendall(ECHO * 1000)


@pytest.mark.parametrize("name", SCPS)
def test_a_full_SCP_tells_a_peer_to_come_again(name: str, tmp_path: Path) -> None:
    with example_scp(name, tmp_path, limits="module.MOST_ASSOCIATIONS = 0") as peer:
        answer = answers_of(peer, request_bytes())
    assert answer == pdu.encode_associate_reject(pdu.AssociateReject(2, 3, 2))


def test_a_peer_that_vanishes_leaves_no_trace(scp: Peer) -> None:
    """Its connection is reset in the middle of an object."""
    before = sorted(scp.folder.rglob("*"))
    with socket.create_connection(("127.0.0.1", scp.port), RECEIVE_SECONDS) as sock:
        sock.sendall(request_bytes())
        sock.recv(RECEIVE_LENGTH)
        sock.sendall(store("1.2.3.4") + p_data(3, bytes(100_000), more=True))
        wait_until(lambda: len(sorted(scp.folder.rglob("*"))) > len(before))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: sorted(scp.folder.rglob("*")) == before)


def test_a_release_within_a_data_set_is_confirmed_and_leaves_no_trace(scp: Peer) -> None:
    before = sorted(scp.folder.rglob("*"))
    half = store("1.2.3.4") + p_data(3, bytes(100_000), more=True)
    answer = answers_of(scp, request_bytes(), half + pdu.encode_release_request(), read_after=2)
    assert answer.endswith(pdu.encode_release_response())
    assert sorted(scp.folder.rglob("*")) == before


def test_a_request_within_a_data_set_is_the_end(scp: Peer) -> None:
    before = sorted(scp.folder.rglob("*"))
    half = store("1.2.3.4") + p_data(3, bytes(100_000), more=True)
    answer = answers_of(scp, request_bytes(), half + ECHO, read_after=2)
    assert answer.endswith(pdu.encode_abort(pdu.Abort(2, 6)))
    assert sorted(scp.folder.rglob("*")) == before


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if holds():
            return
        select.select([], [], [], 0.01)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize("path", UNCOMPRESSED + COMPRESSED, ids=lambda path: path.stem)
def test_pynetdicom_stores_with_the_SCP(scp: Peer, path: Path) -> None:
    dataset = pydicom.dcmread(path)
    ae = AE()
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
    association = ae.associate("127.0.0.1", scp.port)
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    assert association.send_c_store(dataset).Status == 0x0000
    association.release()
    assert elements(scp.folder / f"{dataset.SOPInstanceUID}.dcm") == elements(path)


REQUEST = CStoreRequest(
    message_id=1, affected_sop_class_uid=CT_IMAGE_STORAGE, affected_sop_instance_uid="1.2.3"
)


def incoming(folder: Path) -> tuple[Any, int | None]:
    """A C-STORE that has begun, and what it is refused with at once."""
    request = associate_request("A", "B", [(CT_IMAGE_STORAGE, [IMPLICIT_VR_LITTLE_ENDIAN])])
    accept = negotiate(request, ACCEPTOR)
    assert isinstance(accept, pdu.AssociateAccept)
    negotiated = negotiated_from(request, accept, Role.ACCEPTOR)
    it = load("storing").IncomingObject(folder, REQUEST)
    return it, it.begin(negotiated.contexts[1], negotiated)


def test_a_folder_that_takes_nothing_is_out_of_resources(tmp_path: Path) -> None:
    it, status = incoming(tmp_path / "missing")
    assert status == Status.OUT_OF_RESOURCES
    assert it.write(memoryview(b"data")) == Status.OUT_OF_RESOURCES
    assert it.commit() == Status.OUT_OF_RESOURCES
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_given_leaves_no_trace(tmp_path: Path) -> None:
    it, status = incoming(tmp_path)
    assert status is None
    (tmp_path / "1.2.3.dcm").mkdir()  # a rename onto a folder fails
    assert it.commit() == Status.OUT_OF_RESOURCES
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3.dcm"]


# The SCUs and peers that are not good.

OFFER = Offer(transfer_syntaxes=("1.2.840.10008.1.2.1", IMPLICIT_VR_LITTLE_ENDIAN))
ACCEPTOR = Acceptor(offer=lambda _: OFFER, max_pdu_length=16_384)


def accepting(answer_to_more: bytes) -> Callable[[socket.socket], None]:
    """Accepts the association, then answers whatever comes with these bytes, and closes."""

    def behave(sock: socket.socket) -> None:
        body = sock.recv(RECEIVE_LENGTH)[6:]
        request = pdu.decode_pdu(pdu.PduType.A_ASSOCIATE_RQ, body, DEFAULT_LIMITS)
        assert isinstance(request, pdu.AssociateRequest)
        accept = negotiate(request, ACCEPTOR)
        assert isinstance(accept, pdu.AssociateAccept)
        sock.sendall(pdu.encode_associate_accept(accept))
        sock.recv(RECEIVE_LENGTH)
        sock.sendall(answer_to_more)

    return behave


def answering(data: bytes) -> Callable[[socket.socket], None]:
    """Answers the A-ASSOCIATE-RQ with these bytes, and closes."""

    def behave(sock: socket.socket) -> None:
        sock.recv(RECEIVE_LENGTH)
        sock.sendall(data)

    return behave


REJECT = pdu.encode_associate_reject(pdu.AssociateReject(1, 1, 7))
ABORT = pdu.encode_abort(pdu.Abort(2, 6))
ECHO_RESPONSE = p_data(1, CEchoResponse(message_id_being_responded_to=1, status=0x0000))
STORE_RESPONSE = p_data(
    3,
    CStoreResponse(
        message_id_being_responded_to=2,
        status=0x0000,
        affected_sop_class_uid=CT_IMAGE_STORAGE,
        affected_sop_instance_uid="1.2.3.4",
    ),
)
UNASKED = p_data(1, CEchoResponse(message_id_being_responded_to=99, status=0x0000))
#: More than the buffers of two sockets hold.
LARGE = 24 << 20


def bytes_of(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        assert chunk, "the SCU has closed"
        data += chunk
    return data


def read_pdu(sock: socket.socket) -> tuple[int, bytes]:
    header = bytes_of(sock, 6)
    return header[0], bytes_of(sock, int.from_bytes(header[2:], "big"))


def read_message(sock: socket.socket, *, data_set: bool) -> None:
    """To the last fragment of a command set, or of its data set."""
    while True:
        kind, body = read_pdu(sock)
        assert kind == pdu.PduType.P_DATA_TF
        if body[5] == (2 if data_set else 3):
            return


def storing(within: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """Is good until the first bytes of an object have come, then does what it is made for."""

    def behave(sock: socket.socket) -> None:
        accepting(ECHO_RESPONSE)(sock)
        read_message(sock, data_set=False)
        within(sock)

    return behave


def saying(data: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(data)


def vanish(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def release(sock: socket.socket) -> None:
    """And read on: our confirmation comes behind the data set."""
    sock.sendall(pdu.encode_release_request())
    read_message(sock, data_set=True)
    assert read_pdu(sock)[0] == pdu.PduType.A_RELEASE_RP


def ask(sock: socket.socket) -> None:
    """Something that the SCU does not perform, and it says so behind its data set."""
    sock.sendall(p_data(1, CEchoRequest(message_id=77, affected_sop_class_uid=VERIFICATION)))
    read_message(sock, data_set=True)
    kind, body = read_pdu(sock)
    assert kind == pdu.PduType.P_DATA_TF
    response, _ = decode_message(body[6:])
    assert isinstance(response, CEchoResponse)
    assert response.message_id_being_responded_to == 77
    assert response.status == Status.UNRECOGNIZED_OPERATION
    sock.sendall(STORE_RESPONSE)
    assert read_pdu(sock)[0] == pdu.PduType.A_RELEASE_RQ
    sock.sendall(pdu.encode_release_response())


#: Whether the SCU has ended: what waits to be sent to a peer that takes nothing hides it from it.
GONE = threading.Event()


def take_nothing(_sock: socket.socket) -> None:
    assert GONE.wait(RECEIVE_SECONDS), "the SCU waits for ever"


def read_to_the_end(sock: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while sock.recv(RECEIVE_LENGTH):
            pass


def silent_from(answers: bytes | None) -> Callable[[socket.socket], None]:
    def behave(sock: socket.socket) -> None:
        if answers is not None:
            accepting(answers)(sock)
        read_to_the_end(sock)

    return behave


class Bad(NamedTuple):
    """How a peer behaves, and what the SCU makes of it; no reason: it ends well."""

    behave: Callable[[socket.socket], None]
    reason: str
    #: Bytes of the object to send; 0: none is.
    length: int = 0


LOST = "the transport connection was lost"
BAD_PEERS = {
    "closes at once": Bad(answering(b""), LOST),
    "rejects": Bad(answering(REJECT), "called AE title not recognized"),
    "talks nonsense": Bad(answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "PDU type"),
    "closes in a PDU": Bad(answering(b"\x02\0\0\0\x01\0half"), LOST),
    "aborts": Bad(accepting(ABORT), "invalid PDU parameter value"),
    "asks and goes": Bad(accepting(ECHO), LOST),
    "answers what was not asked": Bad(accepting(UNASKED), "not outstanding"),
    "talks nonsense later": Bad(accepting(b"\x04\0\0\0\0\x02\0\0"), "P-DATA-TF"),
    "releases": Bad(accepting(pdu.encode_release_request()), "association"),
    "is silent": Bad(silent_from(None), "waited too long for the A-ASSOCIATE-AC"),
    "does not answer": Bad(silent_from(b""), "waited too long for a response"),
    "does not answer a release": Bad(silent_from(ECHO_RESPONSE), "for the A-RELEASE-RP"),
    "aborts within a data set": Bad(storing(saying(ABORT)), "invalid PDU parameter", LARGE),
    "vanishes within a data set": Bad(storing(vanish), LOST, LARGE),
    "talks nonsense within a data set": Bad(storing(saying(b"\xff" * 64)), "PDU type", LARGE),
    "releases within a data set": Bad(storing(release), "association", LARGE),
    "asks within a data set": Bad(storing(ask), "", LARGE),
    "takes nothing": Bad(storing(take_nothing), "", LARGE),
}


@pytest.mark.parametrize("scu", SCUS)
@pytest.mark.parametrize("behaviour", BAD_PEERS)
def test_an_SCU_ends_with_the_reason(scu: str, behaviour: str, tmp_path: Path) -> None:
    behave, reason, length = BAD_PEERS[behaviour]
    files = []
    if length:
        files.append(tmp_path / "object.dcm")
        head = write_file_meta(CT_IMAGE_STORAGE, "1.2.3.4", IMPLICIT_VR_LITTLE_ENDIAN)
        files[0].write_bytes(head + bytes(length))

    def serve(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            sock.settimeout(RECEIVE_SECONDS)
            behave(sock)
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
                read_to_the_end(sock)

    deadlines = {"association_request": 2.0}  # ARTIM: how long a peer may take to close
    if behaviour == "takes nothing":
        deadlines["write_blocked"] = 2.0
    elif behaviour.startswith(("is silent", "does not")):
        deadlines |= {"association_response": 2.0, "response": 2.0, "release": 2.0}
    with socket.socket() as listener, ThreadPoolExecutor(1) as pool:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.settimeout(RECEIVE_SECONDS)
        served = pool.submit(serve, listener)
        port = listener.getsockname()[1]
        GONE.clear()
        done = run(*command(scu, "127.0.0.1", port, *files, **deadlines))
        GONE.set()
        served.result()
    assert "Traceback" not in done.stdout
    assert "Warning" not in done.stdout
    *said, last = done.stdout.splitlines()
    assert not length or said[0] == "C-ECHO: 0000H success"
    if behaviour == "asks within a data set":
        assert done.returncode == 0, done.stdout
        return
    assert done.returncode == 1, done.stdout
    assert last.startswith("error: "), done.stdout
    assert reason in last


# The pair in memory.


pair = load("in_memory_pair")
HEARD_BY_REQUESTOR = [
    "AssociationAccepted",
    "MessageReceived: CEchoResponse success",
    "MessageReceived: CStoreResponse success",
    "AssociationReleased",
]


@pytest.mark.parametrize("chunk", [0, 1, 7, 4096, 65_537])
def test_chunks_change_nothing(chunk: int) -> None:
    whole, cut = pair.begin(), pair.begin(chunk)
    whole.run()
    cut.run()
    assert whole.requestor.heard == HEARD_BY_REQUESTOR
    assert [end.heard for end in cut.ends] == [end.heard for end in whole.ends]
    assert {end.engine.state for end in cut.ends} == {Sta.STA1}


def test_wherever_the_wire_is_cut_both_ends_come_to_rest() -> None:
    steps = 0
    uncut = pair.begin(1_000)
    while uncut.step():
        steps += 1
    for after in range(steps):
        broken = pair.begin(1_000)
        for _ in range(after):
            broken.step()
        broken.cut()
        broken.let_time_pass(pair.ARTIM_SECONDS)
        assert {end.engine.state for end in broken.ends} == {Sta.STA1}
        heard = broken.requestor.heard
        assert heard[-1] in ("ProviderAborted: transport lost", "AssociationReleased")


def test_artim_ends_an_acceptor_to_whom_nobody_talks() -> None:
    silent = pair.Pair(pair.requestor, pair.StoringAcceptor())
    silent.send(silent.requestor, commands.RequestAssociation(pair.REQUEST))
    silent.acceptor.arriving.clear()  # the A-ASSOCIATE-RQ never comes
    silent.let_time_pass(pair.ARTIM_SECONDS - 1)
    assert silent.acceptor.engine.state is Sta.STA2
    silent.let_time_pass(1)
    assert {end.engine.state for end in silent.ends} == {Sta.STA1}
    assert silent.acceptor.heard == []
    assert silent.requestor.heard == ["ProviderAborted: transport lost"]
