"""One delivery: what arrives, and what is told of one that does not."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.workflow.events import targets as targets_module
from isocenter.services.workflow.events.consumer import (
    Consumer,
    ProgramTarget,
    PythonFunction,
    Target,
    Webhook,
)
from isocenter.services.workflow.events.event import StoredEvent
from isocenter.services.workflow.events.targets import (
    ConsumerError,
    DeliveryError,
    check_target,
    open_target,
)
from services.workflow.events.hooks import SECRET, webhook

EVENT = StoredEvent(
    number=17,
    kind="study.complete",
    at=1_000_000.0,
    study_instance_uid="1.2.3",
    body='{"study_instance_uid":"1.2.3","instances":4}',
)
MEMBERS = {
    "id": 17,
    "kind": "study.complete",
    "at": "1970-01-12T13:46:40.000+00:00",
    "study_instance_uid": "1.2.3",
    "instances": 4,
}


def consumer(target: Target, **options: Any) -> Consumer:
    return Consumer(**{"name": "ris", "target": target, "timeout": 20.0, **options})


async def deliver(target: Target, *, attempt: int = 1, **options: Any) -> None:
    async with open_target(consumer(target, **options)) as to:
        await to(EVENT, attempt)


async def fault_of(target: Target, **options: Any) -> str:
    with pytest.raises(DeliveryError) as caught:
        await deliver(target, **options)
    return str(caught.value)


# -- Webhook -----------------------------------------------------------------------------


async def test_a_webhook_gets_signed_json() -> None:
    with webhook() as hook:
        target = Webhook(url=hook.url + "/hook?key=1", secret=SECRET)
        before = int(time.time())
        await deliver(target, attempt=3)
        (delivery,) = hook.all
    assert delivery.event == MEMBERS
    assert delivery.path == "/hook?key=1"
    assert delivery.is_signed()
    assert delivery.headers["Content-Type"] == "application/json"
    assert delivery.headers["Isocenter-Event"] == "study.complete"
    assert delivery.headers["Isocenter-Delivery"] == "ris-17-3"
    assert before <= int(delivery.headers["Isocenter-Timestamp"]) <= time.time()


async def test_a_secret_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    with webhook() as hook:
        await deliver(Webhook(url=hook.url, secret_file=path))
        await deliver(Webhook(url=hook.url))
        signed, unsigned = hook.all
    assert signed.is_signed()
    assert unsigned.headers["Isocenter-Signature"] is None


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
async def test_whatever_is_not_2xx_is_a_fault(status: int) -> None:
    with webhook() as hook:
        hook.status = lambda event: status
        # Nothing of what it says goes into the fault, and a redirection goes nowhere.
        hook.body, hook.headers = b"Mueller^Joerg " * 100_000, {"Location": hook.url + "/other"}
        assert await fault_of(Webhook(url=hook.url)) == f"HTTP {status}"
        assert len(hook.all) == 1


async def test_an_answer_without_an_end_is_not_read_to_its_end() -> None:
    with webhook() as hook:
        hook.is_endless, hook.status = True, lambda event: 200
        with trio.fail_after(60):
            await deliver(Webhook(url=hook.url), timeout=60.0)


def request_on(connection: socket.socket) -> bytes:
    """All of it: closing a connection with bytes that nobody read resets it."""
    received = b""
    while not received.endswith(b"}"):
        received += connection.recv(65_536)
    return received


async def test_a_success_counts_although_its_body_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets_module, "_REST_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server, trio.fail_after(60):

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                request_on(connection)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
                connection.recv(1)  # until we have gone

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, answer)
            await deliver(Webhook(url=f"http://127.0.0.1:{server.getsockname()[1]}/"))


async def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        assert "ConnectError" in await fault_of(Webhook(url=url))


#: Where the time is over before the request has left, httpx leaves the generator of its body to
#: the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_webhook_that_does_not_answer() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        assert await fault_of(Webhook(url=url), timeout=0.05) == "no answer within 0.05 s"


async def test_a_webhook_that_speaks_something_else() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()

        def speak() -> None:
            connection, _ = sock.accept()
            with connection:
                request_on(connection)
                connection.sendall(b"220 smtp.example ready\r\n")

        thread = threading.Thread(target=speak)
        thread.start()
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        assert "RemoteProtocolError" in await fault_of(Webhook(url=url))
        thread.join()


async def test_certificates_are_verified(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    ca.issue("hook", hosts=["127.0.0.1"], folder=tmp_path)
    ca.issue("other", hosts=["other.example"], folder=tmp_path)
    received: list[bytes] = []
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()

        def answer(name: str) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
            connection, _ = sock.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
                received.append(request_on(tls))
                tls.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        url = f"https://127.0.0.1:{sock.getsockname()[1]}/"
        own = Webhook(url=url, ca=ca.certificate_path)
        for name, target, words in (
            ("hook", own, ""),
            ("other", own, "another address"),
            ("hook", Webhook(url=url), "certificate was refused"),
        ):
            thread = threading.Thread(target=answer, args=(name,))
            thread.start()
            if words:
                assert words in await fault_of(target)
            else:
                await deliver(target)
            await trio.to_thread.run_sync(thread.join)
    assert len(received) == 1


def test_what_is_missing_is_told_before_anything_is_served(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    empty.chmod(0o600)
    public = tmp_path / "public"
    public.write_text(SECRET)
    public.chmod(0o640)
    for target, words in (
        (Webhook(url="http://h/", secret_file=tmp_path / "none"), "cannot read .*none"),
        (Webhook(url="http://h/", secret_file=empty), "holds no secret"),
        (Webhook(url="http://h/", secret_file=public), "open to others; chmod 600"),
        (Webhook(url="https://h/", ca=empty), "cannot use the certificates"),
        (PythonFunction("no.such.module:f"), "cannot import no.such.module:f"),
        (PythonFunction("json:nothing"), "cannot import json:nothing"),
        (PythonFunction("json:__name__"), "is no function"),
    ):
        with pytest.raises(ConsumerError, match=rf"^consumer ris: .*{words}"):
            check_target(consumer(target))


# -- Command -----------------------------------------------------------------------------


def script(tmp_path: Path, text: str) -> ProgramTarget:
    path = tmp_path / "script.py"
    path.write_text(text)
    return ProgramTarget((sys.executable, str(path), "argument"))


async def test_a_command_reads_the_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER__TLS__KEY_PASSWORD", "secret")
    out = tmp_path / "out.json"
    target = script(
        tmp_path,
        "import json, os, sys\n"
        "said = [json.load(sys.stdin), sys.argv[1:], dict(os.environ)]\n"
        f"json.dump(said, open({str(out)!r}, 'w'))",
    )
    await deliver(target)
    event, arguments, environment = json.loads(out.read_text())
    assert event == MEMBERS
    assert arguments == ["argument"]
    assert environment["ISOCENTER_EVENT_KIND"] == "study.complete"
    assert "1.2.3" not in str(environment)
    assert "ISOCENTER__TLS__KEY_PASSWORD" not in environment


async def test_a_command_need_not_read(tmp_path: Path) -> None:
    event = replace(EVENT, body=json.dumps({"x": "x" * (1 << 20)}))
    async with open_target(consumer(script(tmp_path, ""))) as to:
        await to(event, 1)


async def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    target = script(
        tmp_path,
        "import sys\nsys.stderr.write('x' * 5_000_000 + '\\nthe disk\\nis full\\n')\nsys.exit(3)",
    )
    fault = await fault_of(target)
    # What it says may name patients, and the fault stands in the log.
    assert fault == f"{sys.executable}: exit code 3; it said 5000018 bytes"
    killed = script(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)")
    assert await fault_of(killed) == f"{sys.executable}: signal 15"
    missing = ProgramTarget((str(tmp_path / "none"),))
    assert await fault_of(missing) == f"cannot run {tmp_path}/none: No such file or directory"


async def test_a_command_out_of_time_is_killed_with_its_children(tmp_path: Path) -> None:
    names = tmp_path / "pids"
    target = script(
        tmp_path,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(names)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "child.wait()",
    )
    async with open_target(consumer(target, timeout=60)) as to, trio.open_nursery() as nursery:
        nursery.start_soon(to, EVENT, 1)
        await until(lambda: names.exists() and " " in names.read_text())
        nursery.cancel_scope.cancel()
    pids = names.read_text().split()
    # Whoever inherits the orphan takes a moment to reap it; a zombie is dead, too.
    await until(lambda: not any(is_alive(pid) for pid in pids))
    sleeping = script(tmp_path, "import time\ntime.sleep(1000)")
    assert await fault_of(sleeping, timeout=0.2) == "no answer within 0.2 s"


async def until(is_so: Callable[[], bool]) -> None:
    """Waiting for another process: there is nothing to be woken by."""
    with trio.fail_after(60):
        while not is_so():  # noqa: ASYNC110
            await trio.sleep(0.01)


def is_alive(pid: str) -> bool:
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", pid], check=False, capture_output=True, text=True
    )
    return done.stdout.strip() not in ("", "Z", "Zs")


async def test_a_child_in_the_background_does_not_keep_a_command(tmp_path: Path) -> None:
    target = script(
        tmp_path,
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))",
    )
    with trio.fail_after(60):
        await deliver(target, timeout=60)
    pid = int((tmp_path / "pid").read_text())
    os.kill(pid, 15)


# -- Python ------------------------------------------------------------------------------

_told: list[dict[str, object]] = []


def told(event: dict[str, object]) -> None:
    _told.append(event)


def fails(event: dict[str, object]) -> None:
    raise LookupError("no such study here")


_release = threading.Event()


def hangs(event: dict[str, object]) -> None:
    _release.wait(120)


def here(function: Any, monkeypatch: pytest.MonkeyPatch) -> PythonFunction:
    monkeypatch.setitem(sys.modules, "site_events", sys.modules[__name__])
    return PythonFunction(f"site_events:{function.__name__}")


async def test_a_python_function(monkeypatch: pytest.MonkeyPatch) -> None:
    _told.clear()
    await deliver(here(told, monkeypatch))
    assert _told == [MEMBERS]
    assert await fault_of(here(fails, monkeypatch)) == "LookupError: no such study here"


async def test_a_python_function_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        fault = await fault_of(here(hangs, monkeypatch), timeout=0.05)
        assert fault == "no answer within 0.05 s"
    finally:
        _release.set()
