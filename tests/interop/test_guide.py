"""The code of the guide to drivers and of the driver contract, as it stands there."""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.wire import CT, REQUEST, STORE_CONTEXT, established, p_data, pdv
from interop.test_example_drivers import BAD_PEERS, example_scp, read_to_the_end, storescp
from isocenter.engine import commands, events
from isocenter.engine.association import Association
from isocenter.engine.deadlines import Deadlines, next_deadline
from isocenter.engine.dimse.message_codec import CStoreRequest, encode_message, is_request
from isocenter.engine.errors import AssociationError, LocalProtocolError
from isocenter.engine.pdu import AssociateAccept

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDE = DOCS / "how-to" / "write-a-driver.md"
CONTRACT = DOCS / "reference" / "driver-contract.md"
BLOCKS = [
    block
    for page in (GUIDE, CONTRACT)
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
]
WAIT_SECONDS = 60.0
#: Short, for peers that let it come to that.
SHORT = Deadlines(
    association_request=2.0, association_response=2.0, response=2.0, release=2.0, idle=2.0
)


def block(beginning: str) -> str:
    (found,) = (each for each in BLOCKS if beginning in each)
    return found


@pytest.fixture
def guide() -> dict[str, Any]:
    """The names that the driver of the guide defines."""
    names: dict[str, Any] = {}
    exec(compile(block("class Driver"), str(GUIDE), "exec"), names)
    return names


@pytest.fixture
def hurried(guide: dict[str, Any]) -> dict[str, Any]:
    """With deadlines that a test can wait for."""
    guide["next_deadline"] = functools.partial(next_deadline, deadlines=SHORT)
    return guide


@pytest.mark.interop("storescp")
def test_it_verifies_with_DCMTK(guide: dict[str, Any], tmp_path: Path) -> None:
    with storescp(tmp_path) as peer:
        assert guide["echo"]("127.0.0.1", peer.port, peer.ae_title) == 0x0000


@pytest.mark.parametrize("name", ["asyncio_scp.py", "selectors_scp.py"])
def test_it_verifies_with_an_example(name: str, guide: dict[str, Any], tmp_path: Path) -> None:
    with example_scp(name, tmp_path) as peer:
        assert guide["echo"]("127.0.0.1", peer.port) == 0x0000


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Makes a peer that behaves so, once; its port.  What it raises is raised at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        listener.settimeout(WAIT_SECONDS)
        served = []

        def make(behave: Callable[[socket.socket], None]) -> int:
            def serve() -> None:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(WAIT_SECONDS)
                    behave(sock)
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_WR)
                        read_to_the_end(sock)

            served.append(pool.submit(serve))
            port: int = listener.getsockname()[1]
            return port

        yield make
        for each in served:
            each.result()


@pytest.mark.parametrize("behaviour", [name for name, bad in BAD_PEERS.items() if not bad.length])
def test_it_ends_with_the_reason_whatever_the_peer_does(
    behaviour: str, hurried: dict[str, Any], peer: Callable[..., int]
) -> None:
    """Never with `LocalProtocolError`: that would be a mistake of the guide."""
    with pytest.raises((AssociationError, ConnectionError)) as caught:
        hurried["echo"]("127.0.0.1", peer(BAD_PEERS[behaviour].behave))
    assert not isinstance(caught.value, LocalProtocolError)


def test_ARTIM_ends_it_when_the_peer_does_not_close(
    hurried: dict[str, Any], peer: Callable[..., int]
) -> None:
    """The peer talks nonsense, is told so, and holds the connection open."""

    def hold(sock: socket.socket) -> None:
        sock.recv(65_536)
        sock.sendall(b"\xff" * 64)
        assert sock.recv(65_536)[0] == 7, "an A-ABORT"
        # The driver closes first, by ARTIM: else both would wait.
        assert sock.recv(65_536) == b""

    with pytest.raises(AssociationError, match="PDU type"):
        hurried["echo"]("127.0.0.1", peer(hold))


def test_every_effect_has_its_case() -> None:
    text = block("class Driver")
    from isocenter.engine import effects

    orders = {
        "OpenTransport",
        "SendBytes",
        "CloseTransport",
        "StartArtim",
        "StopArtim",
        "PeerFault",
    }
    assert {name for name in orders if f"effects.{name}" in text} == orders
    assert all(hasattr(effects, name) for name in orders)


def test_the_import_line_imports() -> None:
    exec(block("from isocenter.engine import Association, Role, associate_request"), {})


def test_a_storage_SCP_s_offer() -> None:
    names: dict[str, Any] = {"request": REQUEST}
    exec(block("storage_offer"), names)
    assert isinstance(names["answer"], AssociateAccept)
    assert [each.result for each in names["answer"].presentation_contexts] == [0, 0, 3]


def test_the_question_before_the_command() -> None:
    carried: list[object] = []
    names: dict[str, Any] = {
        "engine": established(),
        "command": commands.RequestRelease(),
        "carry_out": carried.extend,
    }
    exec(block("if engine.allows(command)"), names)
    assert len(carried) == 1
    exec(block("if engine.allows(command)"), names)
    assert len(carried) == 1


@pytest.mark.parametrize(
    ("uid", "status", "performed"), [(CT, 0x0000, [b"data"]), ("1.2.3.4", 0x0122, [])]
)
def test_one_answer_for_each_request(uid: str, status: int, performed: list[bytes]) -> None:
    engine = established()
    done: list[bytes] = []
    sent: list[int] = []

    def perform(_message: object, data_set: bytes) -> int:
        done.append(data_set)
        return 0x0000

    def respond(context_id: int, response: Any) -> None:
        engine.send(commands.SendMessage(context_id, response))
        sent.append(response.status)

    names: dict[str, Any] = {
        "engine": engine,
        "events": events,
        "is_request": is_request,
        "perform": perform,
        "respond": respond,
    }
    exec(block("incoming = Incoming()"), names)
    request = CStoreRequest(
        message_id=1, affected_sop_class_uid=uid, affected_sop_instance_uid="1.2.3"
    )
    stream = p_data(pdv(STORE_CONTEXT, 3, encode_message(request, True)))
    for chunk in (
        stream,
        p_data(pdv(STORE_CONTEXT, 0, b"da")),
        p_data(pdv(STORE_CONTEXT, 2, b"ta")),
    ):
        assert sent == []
        for event in engine.receive_data(chunk):
            names["handle"](event)
    assert (sent, done) == ([status], performed)


def test_no_block_of_code_is_left_out() -> None:
    """Each is run by one of the tests above."""
    assert len(BLOCKS) == 5


def test_what_each_call_does_at_a_wrong_moment() -> None:
    """The table of the page, row by row."""
    from engine.wire import end_in
    from isocenter.engine.effects import CloseTransport, StopArtim
    from isocenter.engine.negotiation import Role
    from isocenter.engine.states import Sta

    before = Association(Role.REQUESTOR)
    for end in (before, end_in(Sta.STA6), end_in(Sta.STA13)):
        with pytest.raises(LocalProtocolError):
            end.transport_opened()
    assert before.receive_data(b"\xff") == ()
    assert before.transport_closed() == ()
    assert [type(e) for e in end_in(Sta.STA4).transport_closed()] == [events.ProviderAborted]
    assert before.timer_expired() == ()
    assert end_in(Sta.STA6).timer_expired() == ()
    over = end_in(Sta.STA13)
    assert [type(e) for e in over.receive_data(b"\x07\0\0\0\0\4\0\0\0\0")] == [
        StopArtim,
        CloseTransport,
    ]
    assert over.receive_data(b"\xff") == ()
    over = end_in(Sta.STA13)
    assert over.transport_closed() == (StopArtim(),)
    assert over.transport_closed() == ()
    over = end_in(Sta.STA13)
    assert CloseTransport() in over.timer_expired()
    assert over.timer_expired() == ()
