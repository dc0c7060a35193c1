"""What bad input gets: the standard's answer, or an error that names fault and cure.

After each test the server still answers, has written no traceback, and has what it
acknowledged before, bit for bit and findable.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from isocenter.engine import pdu
from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.engine.dimse.message_codec import (
    CEchoRequest,
    CEchoResponse,
    CFindRequest,
    CFindResponse,
    CGetRequest,
    CMoveRequest,
    CStoreRequest,
    CStoreResponse,
    Message,
    encode_message,
)
from isocenter.engine.pdu import Abort
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.archive.index.query import Level
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from support.processes import ServedArchive, isocenter_command, served_archive
from support.raw import (
    RawPeer,
    associate_request,
    message_bytes,
    p_data,
    pdu_of,
    pdv,
    raw_peer,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY, SERIES = "1.2.3", "1.2.3.4"
KEPT = "1.2.3.4.1"
ECHO_CONTEXT, STORE_CONTEXT, FIND_CONTEXT, MOVE_CONTEXT, GET_CONTEXT = 1, 3, 5, 7, 9
CONTEXTS = (
    VERIFICATION,
    CT,
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_MOVE,
    sop_classes.STUDY_ROOT_GET,
)
ECHO = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)

#: A-ABORT as PS3.8 Table 9-26 has it: (source, reason).
BY_USER = Abort(0, 0)
UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_VALUE = Abort(2, 1), Abort(2, 2), Abort(2, 6)


def data_set(uid: str = KEPT, *, study: str = STUDY, pixels: int = 64) -> bytes:
    return write_data_set(
        [
            (0x00080016, "UI", CT.encode()),
            (0x00080018, "UI", uid.encode()),
            (0x00100010, "PN", b"Doe^Jane"),
            (0x00100020, "LO", b"P1"),
            (0x0020000D, "UI", study.encode()),
            (0x0020000E, "UI", SERIES.encode()),
            (0x7FE00010, "OW", bytes(pixels)),
        ],
        EXPLICIT_LITTLE,
    )


def store_request(uid: str = KEPT, message_id: int = 1) -> CStoreRequest:
    return CStoreRequest(
        message_id=message_id, affected_sop_class_uid=CT, affected_sop_instance_uid=uid
    )


@asynccontextmanager
async def associated(port: int) -> AsyncIterator[RawPeer]:
    async with raw_peer(port) as peer:
        await peer.associate(*CONTEXTS)
        yield peer


async def store(peer: RawPeer, uid: str, *, pixels: int = 64) -> int:
    response, _ = await peer.exchange(
        STORE_CONTEXT, store_request(uid), data_set(uid, pixels=pixels)
    )
    assert isinstance(response, CStoreResponse)
    return response.status


async def found(peer: RawPeer, uid: str) -> int:
    """How many instances the archive finds with this UID."""
    identifier = build_identifier(
        [("StudyInstanceUID", STUDY), ("SeriesInstanceUID", SERIES), ("SOPInstanceUID", uid)],
        Level.IMAGE,
        EXPLICIT_VR_LITTLE_ENDIAN,
    )
    request = CFindRequest(
        message_id=9, affected_sop_class_uid=sop_classes.STUDY_ROOT_FIND, priority=0
    )
    await peer.send(message_bytes(FIND_CONTEXT, request, identifier))
    matches = 0
    while True:
        response, _ = await peer.message()
        assert isinstance(response, CFindResponse)
        if response.status == 0:
            return matches
        assert response.status == 0xFF00
        matches += 1


async def check_serves(archive: ServedArchive) -> None:
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(ECHO_CONTEXT, ECHO)
        assert response == CEchoResponse(
            message_id_being_responded_to=1, status=0, affected_sop_class_uid=VERIFICATION
        )
        assert await found(peer, KEPT) == 1
        await peer.release()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    with served_archive(tmp_path_factory.mktemp("bad-input"), tls=True) as archive:
        yield archive


@pytest.fixture
async def archive(served: ServedArchive) -> AsyncIterator[ServedArchive]:
    async with associated(served.port) as peer:
        assert await store(peer, KEPT) == 0
        await peer.release()
    (kept,) = served.objects()
    before = kept.read_bytes()
    yield served
    await check_serves(served)
    assert served.objects() == [kept]
    assert kept.read_bytes() == before
    assert "Traceback" not in served.log.read_text()


def lines_about(archive: ServedArchive, peer: RawPeer) -> list[str]:
    """What the log says of this connection."""
    return [line for line in archive.log.read_text().splitlines() if f" {peer.address}:" in line]


# What is no DICOM.


@pytest.mark.parametrize(
    "garbage",
    [b"\x99" * 64, b"\0" * 1_000, b"\xff" * 6, bytes(range(32, 127))],
    ids=["one byte", "zeros", "a header of ones", "text"],
)
async def test_garbage_is_aborted(archive: ServedArchive, garbage: bytes) -> None:
    """Sta2, an unrecognized PDU: AA-1."""
    async with raw_peer(archive.port) as peer:
        await peer.send(garbage)
        assert await peer.pdu() == BY_USER


@pytest.mark.parametrize("encrypted", [False, True])
async def test_an_http_request_is_closed_and_named_in_the_log(
    archive: ServedArchive, encrypted: bool
) -> None:
    async with raw_peer((archive.tls_port or 0) if encrypted else archive.port) as peer:
        await peer.send(b"GET /patients HTTP/1.1\r\nHost: archive\r\n\r\n")
        assert await peer.is_closed()
        (line,) = lines_about(archive, peer)
    assert ("not TLS on the TLS port" if encrypted else "an HTTP request on the DICOM port") in line
    assert "patients" not in line


async def test_tls_on_the_port_for_clear_text_is_closed_and_named(archive: ServedArchive) -> None:
    async with raw_peer(archive.port) as peer:
        await peer.send(b"\x16\x03\x01\x02\x00\x01\x00")
        assert await peer.is_closed()
        (line,) = lines_about(archive, peer)
    assert "TLS on the port for clear text" in line


async def test_clear_text_on_the_tls_port_is_closed_and_named(archive: ServedArchive) -> None:
    async with raw_peer(archive.tls_port or 0) as peer:
        await peer.send(pdu.encode_associate_request(associate_request(*CONTEXTS)))
        assert await peer.is_closed()
        (line,) = lines_about(archive, peer)
    assert "clear-text DICOM on the TLS port" in line


# PDUs.


@pytest.mark.parametrize("length", [0xFFFFFFFF, (1 << 20) + 1])
async def test_a_request_that_announces_too_much_is_aborted_at_its_header(
    archive: ServedArchive, length: int
) -> None:
    async with raw_peer(archive.port) as peer:
        await peer.send(struct.pack(">BxI", 1, length))
        assert await peer.pdu() == BY_USER


async def test_a_request_whose_items_lie_about_their_length_is_aborted(
    archive: ServedArchive,
) -> None:
    request = bytearray(pdu.encode_associate_request(associate_request(*CONTEXTS)))
    # The application context item begins after 74 bytes; its length is at 76.
    struct.pack_into(">H", request, 76, 0xFFFF)
    async with raw_peer(archive.port) as peer:
        await peer.send(bytes(request))
        assert await peer.pdu() == BY_USER


@pytest.mark.parametrize(
    ("name", "sent", "expected"),
    [
        ("P-DATA-TF over our maximum", struct.pack(">BxI", 4, 0xFFFFFFF0), INVALID_VALUE),
        ("one byte over our maximum", struct.pack(">BxI", 4, 131_073), INVALID_VALUE),
        ("PDV longer than its PDU", p_data(struct.pack(">IBB", 500, 1, 3)), INVALID_VALUE),
        ("PDV shorter than its header", p_data(struct.pack(">IBB", 1, 1, 3)), INVALID_VALUE),
        ("bytes behind the last PDV", p_data(pdv(1, 3, b""), b"\0\0\0"), INVALID_VALUE),
        ("a context that was not accepted", p_data(pdv(99, 3, b"")), INVALID_VALUE),
        ("an even context", p_data(pdv(2, 3, b"")), INVALID_VALUE),
        ("data before its command", p_data(pdv(3, 2, b"")), INVALID_VALUE),
        ("an unknown PDU type", pdu_of(0x5A, bytes(4)), UNRECOGNIZED_PDU),
        ("PDU type 0", pdu_of(0, bytes(4)), UNRECOGNIZED_PDU),
        ("A-ASSOCIATE-RQ again", None, UNEXPECTED_PDU),
        ("A-ASSOCIATE-RJ", bytes.fromhex("03 00 00000004 00 01 01 07"), UNEXPECTED_PDU),
        ("A-RELEASE-RP", bytes.fromhex("06 00 00000004 00000000"), UNEXPECTED_PDU),
        ("A-RELEASE-RQ of another length", pdu_of(5, bytes(6)), INVALID_VALUE),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_pdu_that_may_not_be_is_aborted_with_the_reason_that_fits(
    archive: ServedArchive, name: str, sent: bytes | None, expected: Abort
) -> None:
    async with associated(archive.port) as peer:
        if sent is None:
            sent = pdu.encode_associate_request(associate_request(*CONTEXTS))
        await peer.send(sent)
        assert await peer.pdu() == expected


# Messages.


def _without(message: Message, *elements: int) -> bytes:
    """The command set of a message without some of its elements."""
    encoded = encode_message(message, has_data_set=False)
    kept, position = b"", 12  # behind the group length
    while position < len(encoded):
        element, length = struct.unpack_from("<2xHI", encoded, position)
        if element not in elements:
            kept += encoded[position : position + 8 + length]
        position += 8 + length
    return struct.pack("<HHII", 0, 0, 4, len(kept)) + kept


@pytest.mark.parametrize("element", [0x0100, 0x0110], ids=["Command Field", "Message ID"])
async def test_a_command_set_that_cannot_be_answered_aborts(
    archive: ServedArchive, element: int
) -> None:
    async with associated(archive.port) as peer:
        await peer.send(message_bytes(ECHO_CONTEXT, _without(ECHO, element)))
        assert await peer.pdu() == INVALID_VALUE


@pytest.mark.parametrize(
    ("context", "message", "element"),
    [
        (ECHO_CONTEXT, ECHO, 0x0002),
        (STORE_CONTEXT, store_request(), 0x0002),
        (STORE_CONTEXT, store_request(), 0x1000),
    ],
    ids=["Affected SOP Class UID", "of C-STORE", "Affected SOP Instance UID"],
)
async def test_a_command_set_without_a_field_gets_0212(
    archive: ServedArchive, context: int, message: Message, element: int
) -> None:
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(context, _without(message, element))
        assert response.status == 0x0212  # type: ignore[union-attr]
        await peer.release()


async def test_an_unknown_command_gets_0211(archive: ServedArchive) -> None:
    command = bytearray(encode_message(ECHO, has_data_set=False))
    at = command.index(struct.pack("<HHIH", 0, 0x0100, 2, 0x0030))
    struct.pack_into("<H", command, at + 8, 0x0777)
    async with associated(archive.port) as peer:
        await peer.send(message_bytes(ECHO_CONTEXT, bytes(command)))
        answer = await peer.command_set()
        assert answer[0x0100] == struct.pack("<H", 0x8777)
        assert answer[0x0900] == struct.pack("<H", 0x0211)
        await peer.release()


async def test_a_command_on_the_wrong_context_gets_0122(archive: ServedArchive) -> None:
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(STORE_CONTEXT, ECHO)
        assert response.status == 0x0122  # type: ignore[union-attr]
        await peer.release()


async def test_a_store_without_a_data_set_gets_c000(archive: ServedArchive) -> None:
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(STORE_CONTEXT, store_request("1.2.3.4.2"))
        assert response.status == 0xC000  # type: ignore[union-attr]
        await peer.release()


async def test_a_command_set_that_is_none_aborts(archive: ServedArchive) -> None:
    async with associated(archive.port) as peer:
        await peer.send(message_bytes(ECHO_CONTEXT, b"\xff" * 200))
        assert await peer.pdu() == INVALID_VALUE


# Data sets and identifiers.


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff" * 4_096,
        data_set("1.2.3.4.2")[:-1],
        data_set("1.2.3.4.2")[:100],
    ],
    ids=["garbage", "cut by one byte", "cut"],
)
async def test_a_data_set_that_cannot_be_parsed_gets_c000(
    archive: ServedArchive, bad: bytes
) -> None:
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(STORE_CONTEXT, store_request("1.2.3.4.2"), bad)
        assert response.status == 0xC000  # type: ignore[union-attr]
        # The association goes on.
        assert (await peer.exchange(ECHO_CONTEXT, ECHO))[0].status == 0  # type: ignore[union-attr]
        await peer.release()


async def test_a_data_set_over_a_limit_gets_a700(archive: ServedArchive) -> None:
    """A sequence within a sequence, for ever: it may be well-formed (PS3.4 B.2.3)."""
    deep = b"\x40\0\x40\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 10_000
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(STORE_CONTEXT, store_request("1.2.3.4.2"), deep)
        assert response.status == 0xA700  # type: ignore[union-attr]
        assert (await peer.exchange(ECHO_CONTEXT, ECHO))[0].status == 0  # type: ignore[union-attr]
        await peer.release()


@pytest.mark.parametrize(
    ("name", "uid", "sent"),
    [
        ("another instance", "1.2.3.4.9", data_set("1.2.3.4.2")),
        ("empty", "1.2.3.4.2", b""),
        ("no study", "1.2.3.4.2", data_set("1.2.3.4.2", study="")),
    ],
)
async def test_a_data_set_that_does_not_match_gets_a900(
    archive: ServedArchive, name: str, uid: str, sent: bytes
) -> None:
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(STORE_CONTEXT, store_request(uid), sent)
        assert response.status == 0xA900  # type: ignore[union-attr]
        await peer.release()


@pytest.mark.parametrize(
    "uid", ["../../../../etc/passwd", "1.2/../../3", "/etc/passwd", "..", "1.2.3.4.2\0x", "1" * 65]
)
@pytest.mark.parametrize("where", ["command", "study"])
async def test_a_uid_that_is_a_path_gets_0117(archive: ServedArchive, uid: str, where: str) -> None:
    before = _everything_below(archive.data_dir.parent)
    async with associated(archive.port) as peer:
        if where == "command":
            message, sent = store_request(uid), data_set(uid)
        else:
            message, sent = store_request("1.2.3.4.2"), data_set("1.2.3.4.2", study=uid)
        response, _ = await peer.exchange(STORE_CONTEXT, message, sent)
        assert response.status == 0x0117  # type: ignore[union-attr]
        await peer.release()
    assert _everything_below(archive.data_dir.parent) == before


def _everything_below(folder: Path) -> set[Path]:
    """The audit trail apart, which is written meanwhile."""
    return {path for path in folder.rglob("*") if "audit" not in path.parts}


@pytest.mark.parametrize("context", [FIND_CONTEXT, MOVE_CONTEXT, GET_CONTEXT])
@pytest.mark.parametrize(
    ("name", "identifier", "status"),
    [
        ("no level", [(0x0020000D, "UI", b"1.2.3\0")], 0xA900),
        ("no such level", [(0x00080052, "CS", b"FRAME ")], 0xA900),
        ("a level of another model", [(0x00080052, "CS", b"PATIENT ")], 0xA900),
        ("no study above the series", [(0x00080052, "CS", b"SERIES")], 0xA900),
    ],
)
async def test_an_identifier_that_does_not_match_gets_a900(
    archive: ServedArchive,
    context: int,
    name: str,
    identifier: list[tuple[int, str, bytes]],
    status: int,
) -> None:
    request = {
        FIND_CONTEXT: CFindRequest(
            message_id=1, affected_sop_class_uid=sop_classes.STUDY_ROOT_FIND, priority=0
        ),
        MOVE_CONTEXT: CMoveRequest(
            message_id=1,
            affected_sop_class_uid=sop_classes.STUDY_ROOT_MOVE,
            priority=0,
            move_destination="DEST",
        ),
        GET_CONTEXT: CGetRequest(
            message_id=1, affected_sop_class_uid=sop_classes.STUDY_ROOT_GET, priority=0
        ),
    }[context]
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(
            context, request, write_data_set(identifier, EXPLICIT_LITTLE)
        )
        assert response.status == status  # type: ignore[union-attr]
        await peer.release()


async def test_an_identifier_that_is_none_gets_c000(archive: ServedArchive) -> None:
    request = CFindRequest(
        message_id=1, affected_sop_class_uid=sop_classes.STUDY_ROOT_FIND, priority=0
    )
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(FIND_CONTEXT, request, b"\xff" * 100)
        assert response.status == 0xC000  # type: ignore[union-attr]
        await peer.release()


async def test_an_identifier_over_its_limit_gets_a700(archive: ServedArchive) -> None:
    request = CFindRequest(
        message_id=1, affected_sop_class_uid=sop_classes.STUDY_ROOT_FIND, priority=0
    )
    async with associated(archive.port) as peer:
        response, _ = await peer.exchange(FIND_CONTEXT, request, bytes((1 << 20) + 16_000))
        assert response.status == 0xA700  # type: ignore[union-attr]
        await peer.release()


# The machine.


async def test_a_file_that_may_not_grow_is_refused_and_later_taken(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for whatever lets writes fail: EFBIG, for objects and index."""
    with served_archive(tmp_path) as archive:
        pid = archive.process.pid
        unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        async with associated(archive.port) as peer:
            assert await store(peer, KEPT) == 0
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
            assert await store(peer, "1.2.3.4.2", pixels=3 << 20) in {0xA700, 0x0110}
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (4_096, unlimited[1]))
            assert await store(peer, "1.2.3.4.3") in {0xA700, 0x0110}
            assert (await peer.exchange(ECHO_CONTEXT, ECHO))[0].status == 0  # type: ignore[union-attr]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
            for uid in ("1.2.3.4.2", "1.2.3.4.3"):
                assert await found(peer, uid) == 0
                assert await store(peer, uid, pixels=3 << 20) == 0
                assert await found(peer, uid) == 1
            await peer.release()
        await check_serves(archive)
        assert len(archive.objects()) == 3
        assert "Traceback" not in archive.log.read_text()


#: Mounts a volume of 8 MiB that only the server sees.
SMALL_VOLUME = ("unshare", "--map-root-user", "--mount", "sh", "-c")
MOUNT = 'mount -t tmpfs -o size=8m tmpfs "$0" && exec "$@"'


def _may_mount(folder: Path) -> bool:
    try:
        return (
            subprocess.run(
                [*SMALL_VOLUME, MOUNT, folder, "true"], check=False, capture_output=True
            ).returncode
            == 0
        )
    except FileNotFoundError:
        return False


def _fill(path: Path) -> None:
    """Write until there is no room."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(descriptor, bytes(4_096)):
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


async def test_a_full_disk_is_answered_with_a700_until_there_is_room(tmp_path: Path) -> None:
    volume = tmp_path / "archive"
    data = volume / "data"
    data.mkdir(parents=True)
    if not _may_mount(data):
        pytest.skip("no volume can be mounted here: unshare and user namespaces are needed")
    with served_archive(volume, run_by=[*SMALL_VOLUME, MOUNT, data]) as archive:
        inside = Path(f"/proc/{archive.process.pid}/root{data}")
        async with associated(archive.port) as peer:
            assert await store(peer, KEPT, pixels=1 << 20) == 0
            assert await store(peer, "1.2.3.4.2", pixels=9 << 20) == 0xA700
            filler = inside / "filler"
            _fill(filler)
            assert await store(peer, "1.2.3.4.3", pixels=1 << 20) == 0xA700
            assert await store(peer, "1.2.3.4.4") == 0xA700
            assert await found(peer, KEPT) == 1
            filler.unlink()
            for uid in ("1.2.3.4.3", "1.2.3.4.4"):
                assert await found(peer, uid) == 0
                assert await store(peer, uid) == 0
            await peer.release()
        await check_serves(archive)
        assert len(list((inside / "objects").rglob("*.dcm"))) == 3
        assert "Traceback" not in archive.log.read_text()


# The start: exit code 2 for wrong settings, as for what cannot be opened.


def _serve(*words: object) -> tuple[int, list[str]]:
    done = isocenter_command("serve", "--no-tls", *words)
    return done.returncode, done.stdout.strip().splitlines()


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, lines = _serve("--port", 0, "--data-dir", tmp_path / "file" / "data")
    assert code == 2
    assert len(lines) == 1
    assert str(tmp_path / "file") in lines[0]


def test_a_port_in_use_stops_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, lines = _serve("--port", port, "--data-dir", tmp_path)
    assert code == 2
    (line,) = lines
    assert line == (
        f"isocenter serve: cannot listen on 127.0.0.1:{port}: the port is in use; "
        "stop the other program or choose another port (error -922)"
    )


def test_a_data_folder_in_use_stops_the_start(served: ServedArchive) -> None:
    code, lines = _serve("--port", 0, "--data-dir", served.data_dir)
    assert code == 2
    assert len(lines) == 1
    assert str(served.data_dir) in lines[0]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nportt = 104\n", ["server.portt", "server.port"]),
        ("[serve]\nport = 104\n", ["serve", "server"]),
        ('[server]\nport = "many"\n', ["server.port", "many"]),
        ("[server]\nport = 70000\n", ["server.port", "70000"]),
        ("[server\n", ["config.toml"]),
    ],
)
def test_a_wrong_configuration_stops_the_start(tmp_path: Path, text: str, named: list[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    code, lines = _serve("--config", config, "--port", 0, "--data-dir", tmp_path / "data")
    assert code == 2
    for name in named:
        assert name in "\n".join(lines)


async def test_many_faults_at_once_leave_the_others_alone(archive: ServedArchive) -> None:
    """Fifty peers misbehave while one verifies; none of them stays."""
    faults = [b"\x99" * 64, b"GET / HTTP/1.0\r\n\r\n", struct.pack(">BxI", 1, 0xFFFFFFFF), b""]

    async def misbehave(number: int) -> None:
        async with raw_peer(archive.port) as peer:
            await peer.send(faults[number % len(faults)])
            if faults[number % len(faults)]:
                await peer.pdu()

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(misbehave, number)
        await check_serves(archive)
