"""The service under systemd: sockets that are handed over, notices, signs of life."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from isocenter.engine.errors import AssociationError
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import Peer, open_association
from isocenter.services.errors import ConnectError
from isocenter.services.net.listeners import ListenAddress, open_listeners
from isocenter.services.system import systemd
from support.processes import STOP_SECONDS, program, wait_for_line
from support.systemd import Notices, launched, listening_socket, notices

pytestmark = pytest.mark.skipif(os.name != "posix", reason="systemd is for Linux")

CONTEXTS = [(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))]


@dataclass
class Service:
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def service(
    folder: Path,
    sockets: dict[str, socket.socket],
    *options: object,
    name: str = "serve",
    environment: dict[str, str] | None = None,
) -> Iterator[Service]:
    log = folder / f"{name}.log"
    words = ("serve", "--data-dir", folder / "data", *options)
    with program(
        *launched(sockets, *words),
        log=log,
        environment=environment,
        pass_fds=[sock.fileno() for sock in sockets.values()],
    ) as process:
        yield Service(process, log)


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


async def echo(port: int) -> int:
    peer = Peer("ISOCENTER", "127.0.0.1", port)
    async with open_association(peer, CONTEXTS) as association:
        return await association.echo()


async def test_it_serves_on_sockets_by_their_name(tmp_path: Path) -> None:
    """Names decide: the first socket is TLS, the second is in the clear."""
    with listening_socket() as tls, listening_socket() as plain:
        sockets = {"dicom-tls": tls, "dicom": plain}
        with service(tmp_path, sockets, "--port", "1", "--tls-port", "2") as started:
            ready = wait_for_line(started.process, r"^ready (.*)$", started.log)[1]
            assert f"dicom://127.0.0.1:{port_of(plain)}" in ready
            assert f"dicom-tls://127.0.0.1:{port_of(tls)}" in ready
            assert await echo(port_of(plain)) == 0
            with pytest.raises(AssociationError):
                await echo(port_of(tls))
            assert started.stop() == 0
        assert "clear-text DICOM on the TLS port" in started.log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "workers"])
async def test_a_restart_refuses_no_connection(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Connections come in a stream while the service is stopped and started, three times."""
    refused: list[str] = []
    cut = served = 0
    with listening_socket() as plain, ExitStack() as stack:
        port = port_of(plain)
        over = False

        async def come_again_and_again() -> None:
            nonlocal cut, served
            while not over:
                try:
                    assert await echo(port) == 0
                    served += 1
                except ConnectError as error:
                    refused.append(str(error))
                except AssociationError:
                    cut += 1  # it was accepted by the server that stopped

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(come_again_and_again)
            for number in range(3):
                started = stack.enter_context(
                    service(
                        tmp_path, {"dicom": plain}, "--no-tls", *options, name=f"serve-{number}"
                    )
                )
                await trio.to_thread.run_sync(
                    wait_for_line, started.process, r"^ready", started.log
                )
                before = served
                with trio.fail_after(STOP_SECONDS):
                    while served < before + 10:
                        await trio.lowlevel.checkpoint()
                assert await trio.to_thread.run_sync(started.stop) == 0
            over = True
            # Those that wait in the backlog now would wait for the next server.
            nursery.cancel_scope.cancel()
    assert refused == []
    assert served >= 30
    processes = 2 if options else 1  # they stop one after the other
    assert cut <= 9 * processes, "at each stop, at most one for each of the three callers"


async def test_without_systemd_there_are_no_sockets() -> None:
    assert systemd.inherited_sockets({}) == []
    strange = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dicom"}
    assert systemd.inherited_sockets(strange) == []
    assert strange == {}, "not for children"


def handed_over(sock: socket.socket, name: str) -> list[tuple[str, socket.socket]]:
    """*sock* as systemd hands it over, at whatever number it has here."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": name}
    return systemd.inherited_sockets(environ, first=os.dup(sock.fileno()))


def test_a_socket_of_an_unknown_name_is_refused_with_a_cure() -> None:
    with listening_socket() as sock:
        inherited = handed_over(sock, "isocenter.socket")
        with pytest.raises(OSError, match=r"FileDescriptorName=dicom"):
            open_listeners([ListenAddress(host="127.0.0.1", port=0)], inherited)
        assert inherited[0][1].fileno() == -1, "closed"


def test_a_socket_for_what_is_switched_off_is_refused() -> None:
    with listening_socket() as sock:
        inherited = handed_over(sock, "dicom-tls")
        with pytest.raises(OSError, match=r"tls\.enabled is off"):
            open_listeners([ListenAddress(host="127.0.0.1", port=0)], inherited)


def test_what_does_not_listen_is_refused() -> None:
    with socket.socket() as sock, pytest.raises(OSError, match="does not listen for TCP"):
        handed_over(sock, "dicom")
    readable, writable = os.pipe()
    try:
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dicom"}
        with pytest.raises(OSError, match="is no socket"):
            systemd.inherited_sockets(environ, first=readable)
    finally:
        os.close(readable)
        os.close(writable)


def test_what_is_not_handed_over_is_opened() -> None:
    with listening_socket() as sock:
        context = None
        binds = [
            ListenAddress(host="127.0.0.1", port=0),
            ListenAddress(host="127.0.0.1", port=0, tls=lambda: context),
        ]  # type: ignore[arg-type,return-value]
        listeners = open_listeners(binds, handed_over(sock, "dicom"))
        try:
            ports = {bind.tls is not None: port_of(one) for one, bind in listeners}
            assert ports[False] == port_of(sock)
            assert ports[True] not in (0, port_of(sock))
        finally:
            for listener, _ in listeners:
                listener.close()


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "workers"])
def test_systemd_hears_ready_alive_and_stopping(tmp_path: Path, options: tuple[str, ...]) -> None:
    with notices(tmp_path) as taken, ExitStack() as stack:
        environment = {"NOTIFY_SOCKET": str(taken.path), "WATCHDOG_USEC": "600000"}
        started = stack.enter_context(
            service(tmp_path, {}, "--no-tls", "--port", "0", *options, environment=environment)
        )
        heard = taken.wait_for("READY=1")
        assert set(heard) <= {"READY=1", "WATCHDOG=1"}
        taken.wait_for("WATCHDOG=1")
        taken.wait_for("WATCHDOG=1")
        started.process.send_signal(signal.SIGTERM)
        taken.wait_for("STOPPING=1")
        assert started.process.wait(STOP_SECONDS) == 0


def test_a_worker_that_hangs_is_missed(tmp_path: Path) -> None:
    """One of two is stopped: the other's signs are not enough."""
    with notices(tmp_path) as taken, ExitStack() as stack:
        environment = {"NOTIFY_SOCKET": str(taken.path), "WATCHDOG_USEC": "300000"}
        options = ("--no-tls", "--port", "0", "--workers", "2")
        started = stack.enter_context(service(tmp_path, {}, *options, environment=environment))
        taken.wait_for("WATCHDOG=1")
        workers = children(started.process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGSTOP)
        try:
            assert is_silent(taken)
        finally:
            os.kill(workers[0], signal.SIGCONT)
        taken.wait_for("WATCHDOG=1")


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in found.split()]


def is_silent(taken: Notices) -> bool:
    """Whether no more signs come, once what was under way has come."""
    taken._socket.settimeout(1.0)
    try:
        for _ in range(50):  # while this test stood still, several came
            taken.next()
    except TimeoutError:
        return True
    finally:
        taken._socket.settimeout(120.0)
    return False
