"""Captures of our own: what is recorded, who may read it, and what a damaged file says."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import trio
import trio.testing

from isocenter.engine.dimse.message_codec import CEchoRequest, CEchoResponse
from isocenter.engine.negotiation import Role
from isocenter.engine.pdu import Abort
from isocenter.engine.uid import VERIFICATION
from isocenter.services.cli import main
from isocenter.services.diagnostics import capture
from isocenter.services.diagnostics.capture import CaptureFolder, Recorder, read_capture
from isocenter.services.diagnostics.dissect.capture_events import (
    BytesCaptured,
    Captured,
    CaptureEnded,
    CaptureError,
    ConnectionClosed,
    ConnectionOpened,
)
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.net.transport import StreamTransport
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.warnings import warnings
from support.raw import raw_peer
from support.serving import port_of, serving

ECHO = CEchoRequest(message_id=1, affected_sop_class_uid=VERIFICATION)
posix_only = pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")


def read(path: Path) -> list[Captured]:
    with path.open("rb") as file:
        return list(read_capture(file, path.name))


def carried(items: Sequence[Captured], *, by_client: bool) -> bytes:
    return b"".join(
        bytes(item.data)
        for item in items
        if isinstance(item, BytesCaptured) and item.by_client is by_client
    )


def recorded(folder: Path, role: Role = Role.ACCEPTOR, address: str = "192.0.2.1:5000") -> Path:
    """A capture of a few bytes each way."""
    path = folder / "a.isocapture"
    recorder = Recorder(path.open("wb"), path, role, address)
    recorder.received(b"question")
    recorder.sent(b"answer")
    recorder.received(b"")
    recorder.close()
    return path


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


async def one_echo(port: int) -> None:
    async with raw_peer(port) as peer:
        await peer.associate()
        response, _ = await peer.exchange(1, ECHO)
        assert isinstance(response, CEchoResponse)
        await peer.release()


# The format.


def test_what_was_recorded_is_read_again_in_its_order(tmp_path: Path) -> None:
    opened, question, answer, closed, _, ended = read(recorded(tmp_path))
    assert isinstance(opened, ConnectionOpened)
    assert (opened.client, opened.server) == ("192.0.2.1:5000", "isocenter")
    assert isinstance(question, BytesCaptured)
    assert (question.by_client, bytes(question.data)) == (True, b"question")
    assert isinstance(answer, BytesCaptured)
    assert (answer.by_client, bytes(answer.data)) == (False, b"answer")
    assert 0 <= question.time <= answer.time
    assert isinstance(closed, ConnectionClosed)
    assert closed.by_client
    assert isinstance(ended, CaptureEnded)


def test_as_requestor_we_are_the_client(tmp_path: Path) -> None:
    opened, question, *_ = read(recorded(tmp_path, Role.REQUESTOR))
    assert isinstance(opened, ConnectionOpened)
    assert (opened.client, opened.server) == ("isocenter", "192.0.2.1:5000")
    assert isinstance(question, BytesCaptured)
    assert not question.by_client


def test_the_header_is_as_documented(tmp_path: Path) -> None:
    content = recorded(tmp_path).read_bytes()
    assert content[:12] == b"\x89ISOCAP\n\x01\x01\0\x0e"
    assert content[20:34] == b"192.0.2.1:5000"
    assert content[34:42] == b"R\0\0\0" + (8).to_bytes(4)
    assert content[50:58] == b"question"


def test_a_long_send_becomes_records_of_a_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "a.isocapture"
    recorder = Recorder(path.open("wb"), path, Role.ACCEPTOR, "peer")
    sent = os.urandom((5 << 19) + 1)
    recorder.sent(sent)
    recorder.close()
    items = read(path)
    assert carried(items, by_client=False) == sent
    assert max(len(item.data) for item in items if isinstance(item, BytesCaptured)) == 1 << 20


def test_a_file_cut_anywhere_says_so_or_ends_between_records(tmp_path: Path) -> None:
    content = recorded(tmp_path).read_bytes()
    whole = read(tmp_path / "a.isocapture")
    ends = 0
    for length in range(len(content)):
        got: list[Captured] = []
        try:
            got.extend(read_capture(io.BytesIO(content[:length]), "cut"))
        except CaptureError as error:
            assert re.search("cut short|no capture of isocenter serve", str(error))  # noqa: PT017
        else:
            ends += 1
        assert b"question".startswith(carried(got, by_client=True))
        assert len(got) <= len(whole)
    assert ends == 4  # after the header and after each record but the last


@pytest.mark.parametrize(
    ("position", "byte", "fault"),
    [
        (0, 0x88, "no capture of isocenter serve"),
        (8, 2, "version 2"),
        (9, 7, "version"),
        (34, ord("?"), "a record of kind 3FH"),
        (38, 0x7F, "a record of 2130706440 bytes"),
    ],
)
def test_a_damaged_file_is_named_as_such(
    tmp_path: Path, position: int, byte: int, fault: str
) -> None:
    path = recorded(tmp_path)
    content = bytearray(path.read_bytes())
    content[position] = byte
    path.write_bytes(content)
    with pytest.raises(CaptureError, match=fault):
        read(path)


# What the server records.


async def test_an_association_is_one_file_with_both_directions(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    async with serving(wrap_transport=CaptureFolder(folder).record) as server:
        await one_echo(port_of(server))
        await one_echo(port_of(server))
    files = sorted(folder.iterdir())
    assert len(files) == 2
    for path in files:
        items = read(path)
        assert carried(items, by_client=True).startswith(b"\x01\0")
        assert carried(items, by_client=True).endswith(b"\x05\0\0\0\0\x04\0\0\0\0")
        assert carried(items, by_client=False).startswith(b"\x02\0")
        assert carried(items, by_client=False).endswith(b"\x06\0\0\0\0\x04\0\0\0\0")
        assert isinstance(items[-1], CaptureEnded)


async def test_an_answer_stands_behind_what_it_answers(tmp_path: Path) -> None:
    async with serving(wrap_transport=CaptureFolder(tmp_path / "c").record) as server:
        await one_echo(port_of(server))
    sides = [
        item.by_client
        for item in read(only_file(tmp_path / "c"))
        if isinstance(item, BytesCaptured)
    ]
    turns = [
        side for position, side in enumerate(sides) if sides[position - 1 : position] != [side]
    ]
    assert turns == [True, False] * 3


@posix_only
async def test_only_the_owner_may_read_it_and_no_peer_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "above" / "captures"
    async with serving(wrap_transport=CaptureFolder(folder).record) as server:
        await one_echo(port_of(server))
    path = only_file(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(r"\d{8}T\d{6}Z-\d+-000001\.isocapture", path.name)


@posix_only
def test_a_folder_that_others_may_read_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(CaptureError, match=r"captures hold PHI.*chmod 700"):
        CaptureFolder(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CaptureError, match="cannot capture into"):
        CaptureFolder(tmp_path / "file" / "captures")


async def test_nothing_is_recorded_unless_somebody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    monkeypatch.setattr(capture, "Recorder", lambda *arguments: made.append(arguments[1]))
    async with serving() as server:
        await one_echo(port_of(server))
    assert made == []
    assert load_settings(environ={}).server.capture is None


def test_who_records_is_warned(tmp_path: Path) -> None:
    settings = load_settings(environ={}, overrides={"server.capture": str(tmp_path)})
    assert settings.server.capture == tmp_path
    assert [text for text in warnings(settings) if "PHI" in text and str(tmp_path) in text]
    assert not [text for text in warnings(load_settings(environ={})) if "PHI" in text]


@posix_only
def test_serve_does_not_start_with_a_folder_that_others_may_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    code = main(
        ["serve", "--data-dir", ":memory:", "--no-tls", "--port", "0", "--capture", str(tmp_path)]
    )
    assert code == 2
    assert "captures hold PHI" in capsys.readouterr().err


async def test_behind_tls_the_capture_is_in_the_clear(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    server, client = (
        TlsFiles(
            certificate=tmp_path / f"{name}.crt",
            key=tmp_path / f"{name}.key",
            ca=ca.certificate_path,
        )
        for name in ("HERE", "RAW")
    )
    for name in ("HERE", "RAW"):
        ca.issue(name, hosts=["localhost", "127.0.0.1"], folder=tmp_path)
    context = server_context(server)
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)
    folder = tmp_path / "captures"
    async with serving(addresses=[bind], wrap_transport=CaptureFolder(folder).record) as running:
        port = port_of(running, tls=True)
        async with raw_peer(port, tls=client_context(client)) as peer:
            await peer.associate()
            await peer.release()
    items = read(only_file(folder))
    assert carried(items, by_client=True).startswith(b"\x01\0")
    assert carried(items, by_client=False).startswith(b"\x02\0")


async def test_what_our_server_aborted_for_is_what_dissect_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "captures"
    async with (
        serving(wrap_transport=CaptureFolder(folder).record) as server,
        raw_peer(port_of(server)) as peer,
    ):
        await peer.associate()
        await peer.send(b"\x04\0\0\0\0\x0a\0\0\0\xff\x01\x03abcd")  # a PDV of 255 bytes in 10
        assert await peer.pdu() == Abort(2, 6)
    assert main(["dissect", str(only_file(folder))]) == 1
    out = capsys.readouterr().out
    assert "PDV of 255 bytes in a P-DATA-TF with 10 bytes left" in out
    assert "(PS3.8 9.3.5.1)" in out
    assert "the upper layer of the association acceptor aborted: invalid PDU parameter value" in out
    assert "goes on" not in out


# When the disk fails, the association goes on.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's full disk")
async def test_a_full_disk_ends_the_capture_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.isocapture"

    def record(transport: capture.Transport, role: Role) -> capture.Transport:
        full = Path("/dev/full").open("wb")  # noqa: SIM115 (the recorder's own)
        return capture.RecordingTransport(transport, Recorder(full, path, role, "peer"))

    async with serving(wrap_transport=record) as server:
        await one_echo(port_of(server))
    complaints = [line for line in caplog.messages if "the capture" in line]
    assert complaints == [f"the capture {path} ends here: No space left on device"]


async def test_no_capture_begins_on_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usage = type("Usage", (), {"free": (1 << 30) - 1})
    monkeypatch.setattr(capture.shutil, "disk_usage", lambda path: usage)
    async with serving(wrap_transport=CaptureFolder(tmp_path / "c").record) as server:
        await one_echo(port_of(server))
    assert list((tmp_path / "c").iterdir()) == []
    assert "less than 1 GiB is free" in caplog.text


def test_a_long_capture_stops_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(capture, "_LOOK_EVERY_BYTES", 1000)
    path = tmp_path / "a.isocapture"
    recorder = Recorder(path.open("wb"), path, Role.ACCEPTOR, "peer")
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr(capture.shutil, "disk_usage", lambda path: usage)
    for _ in range(100):
        recorder.received(bytes(100))
    recorder.close()
    assert path.stat().st_size < 1200
    with pytest.raises(CaptureError, match="recording stopped here"):
        read(path)
    assert len(caplog.records) == 1


# The transport in between.


async def test_what_is_recorded_is_what_was_sent_and_received(tmp_path: Path) -> None:
    near, far = trio.testing.memory_stream_pair()
    path = tmp_path / "a.isocapture"
    transport = capture.RecordingTransport(
        StreamTransport(near, "far"), Recorder(path.open("wb"), path, Role.REQUESTOR, "far")
    )
    assert (transport.peer_address, transport.identity) == ("far", None)
    left = transport.send_now([b"a", memoryview(b"bc")])
    await transport.send(left, lambda: None)
    assert await far.receive_some() == b"abc"
    await far.send_all(b"def")
    assert await transport.receive() == b"def"
    await far.aclose()
    assert await transport.receive() == b""
    await transport.aclose()
    items = read(path)
    assert carried(items, by_client=True) == b"abc"
    assert carried(items, by_client=False) == b"def"
    assert [item.by_client for item in items if isinstance(item, ConnectionClosed)] == [False, True]


async def test_a_capture_is_closed_with_its_connection(tmp_path: Path) -> None:
    """Whatever ends the association: a file that stays open is a leak."""
    folder = tmp_path / "c"
    async with serving(wrap_transport=CaptureFolder(folder).record) as server:
        async with raw_peer(port_of(server)) as peer:
            await peer.associate()
        with suppress(AssertionError):
            async with raw_peer(port_of(server)) as peer:
                await peer.send(b"\x01\0\0\0\0\x44 no A-ASSOCIATE-RQ" + bytes(60))
                await peer.pdu()
    logging.getLogger("isocenter").debug("the server has stopped")
    for path in folder.iterdir():
        items = read(path)
        assert [item for item in items if isinstance(item, ConnectionClosed) and not item.by_client]
