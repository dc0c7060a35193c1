"""The health of the server here, asked without an AE title: no policy stands in its way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.diagnostics.doctor.server_health import check_health
from isocenter.services.settings.loading import load_settings
from support.ports import free_port
from support.processes import (
    ISOCENTER,
    ServedArchive,
    isocenter_command,
    run,
    served_archive,
    wait_until,
)

Output = pytest.CaptureFixture[str]


@contextmanager
def _served(folder: Path, *options: object) -> Iterator[tuple[ServedArchive, Path]]:
    """An archive whose every port stands in its settings, and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "isocenter.toml"
    port, web = free_port(), free_port()
    config.write_text(f"[server]\nport = {port}\n[monitoring]\nport = {web}\n")
    where = ("--config", config, "--port", port, "--monitoring-port", web)
    with served_archive(folder, *where, *options) as archive:
        text = config.read_text()
        config.write_text(f'{text}[storage]\ndata_dir = "data"\n[tls]\nenabled = false\n')
        yield archive, config


def test_the_first_entity_of_a_policy_breaks_neither_health_nor_doctor(tmp_path: Path) -> None:
    with _served(tmp_path) as (archive, config):
        peer = f"ISOCENTER@127.0.0.1:{archive.port}"
        # What monitoring asks is in the environment of this process, and no setting of it.
        where = ("env", "-u", "ISOCENTER__MONITORING__PORT")
        for is_before in (True, False):
            done = run(*where, *ISOCENTER, "health", "--config", config)
            assert (done.returncode, done.stdout.partition(",")[0]) == (0, "healthy"), done.stdout
            done = run(*where, *ISOCENTER, "doctor", peer, "--config", config)
            assert done.returncode == 0, done.stdout
            assert "health" in done.stdout
            text = "its policy does not admit DOCTOR"
            assert (text in done.stdout) is not is_before
            done = run(*where, *ISOCENTER, "doctor", "--config", config)
            assert "healthy, by http://127.0.0.1:" in done.stdout
            if is_before:
                done = isocenter_command("ae", "add", "CT1", "--config", config)
                assert done.returncode == 0, done.stdout
        # Somebody else's archive that turns us away is a problem still.
        done = run(*where, *ISOCENTER, "doctor", peer, "--data-dir", tmp_path / "other")
        assert done.returncode == 1


def test_who_was_turned_away_shows_while_the_server_runs(tmp_path: Path) -> None:
    with _served(tmp_path) as (archive, config):

        def shows(name: str) -> bool:
            return name in isocenter_command("ae", "rejected", "--config", config).stdout

        isocenter_command("ae", "add", "CT1", "--config", config)
        for number in range(1, 4):
            done = isocenter_command(
                "echoscu", f"ISOCENTER@127.0.0.1:{archive.port}", "-aet", f"NEW{number}"
            )
            assert done.returncode != 0
            # A slow disk has rests between two writes.
            wait_until(partial(shows, f"NEW{number}"), archive.process)


def test_reasons_are_told_to_who_has_the_token(tmp_path: Path) -> None:
    token, config, web = tmp_path / "token", tmp_path / "isocenter.toml", free_port()
    token.write_text("s3cret-token-of-ours\n", "ascii")
    token.chmod(0o600)
    config.write_text(
        f'[monitoring]\nport = {web}\ntoken_file = "{token}"\ndisk_warning = 1\n'
        "disk_critical = 100\n"
    )
    with served_archive(tmp_path, "--config", config, "--monitoring-port", web):
        settings = load_settings(config, environ={})
        (finding,) = check_health(settings).findings
        assert "disk" in finding.text
        token.write_text("another\n", "ascii")
        (finding,) = check_health(settings).findings
        assert finding.text == "the server calls itself degraded"


def test_without_http_the_process_is_looked_at(tmp_path: Path) -> None:
    with _served(tmp_path, "--no-monitoring") as (archive, config):
        settings = load_settings(config, environ={}, overrides={"monitoring.enabled": False})
        examined = check_health(settings)
        assert examined.seen == f"process {archive.process.pid} runs"
        assert not examined.is_problem
    examined = check_health(settings)
    assert examined.is_problem
    assert "no server runs on" in examined.seen


def test_nobody_and_somebody_else(tmp_path: Path, capsys: Output) -> None:
    port = free_port()
    environ = {"ISOCENTER__MONITORING__PORT": str(port)}
    settings = load_settings(environ=environ, overrides={"storage.data_dir": str(tmp_path)})
    examined = check_health(settings)
    assert examined.is_problem
    assert f"no answer from http://127.0.0.1:{port}/health" in examined.seen
    with socket.create_server(("127.0.0.1", port)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

        thread = threading.Thread(target=answer)
        thread.start()
        examined = check_health(settings)
        thread.join()
    assert "is not Isocenter (HTTP 200)" in examined.seen
    config = tmp_path / "wrong.toml"
    config.write_text("[nonsense]\n")
    assert main(["health", "--config", str(config)]) == 2
    assert "nonsense" in capsys.readouterr().err
