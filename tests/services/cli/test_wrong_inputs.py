"""Wrong input of commands: what is said names the fault, and the cure."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from isocenter.services.cli import main
from support.processes import isocenter_command, run


@pytest.mark.parametrize("options", [(), ("--no-tls",), ("--check-config",)])
@pytest.mark.parametrize("name", ["file", "file/data", "file/data/more"])
def test_a_data_directory_that_cannot_be_made(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / name
    done = isocenter_command("serve", "--data-dir", folder, "--port", 0, *options)
    assert done.returncode == 2
    assert f"cannot write in the data directory {folder}: " in done.stdout
    assert "choose another directory with --data-dir" in done.stdout
    # Of what would lie in it nothing is said.
    said = done.stdout.replace(str(tmp_path), "")
    for word in ("CA", "restore", "temporary", "good"):
        assert word not in said


def test_a_check_makes_no_data_directory(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    done = isocenter_command("serve", "--data-dir", folder, "--check-config")
    assert done.returncode == 0, done.stdout
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_a_server_closes_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """A second one at once: where the signal meets what closes is a matter of microseconds."""
    script = (
        "import sys\n"
        "from isocenter.services.cli import main\n"
        "from isocenter.services.cli.server import server_process\n"
        "async def closes(*_):\n"
        "    raise BaseExceptionGroup('closing', [KeyboardInterrupt()])\n"
        "server_process.serve_archive = closes\n"
        "sys.exit(main(['serve', '--no-tls', '--no-http', '--port', '0', *sys.argv[1:]]))\n"
    )
    done = run(sys.executable, "-c", script, "--data-dir", tmp_path / "data")
    assert (done.returncode, done.stdout) == (130, ""), done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "{}", "--data-dir", "{}"), "cannot write in the data directory {}: "),
        (("certs", "init", "--ca-dir", "{}/ca"), "{}/ca cannot be made: "),
        (("certs", "init", "--ca-dir", "{}/ca"), "or choose another directory"),
        (("ae", "add", "CT1", "--data-dir", "{}"), "or give the data directory that is meant"),
        (("config", "set", "server.port", "1", "--data-dir", "{}"), "the data directory that is"),
        (("echoscu", "A" * 17 + "@127.0.0.1:104"), "with an AE title of 1 to 16 characters"),
        (("echoscu", "A@127.0.0.1:65536"), "and a port from 1 to 65535"),
        (("serve", "--peer", "A@b:65536"), "(at most 16 characters; 1 to 65535)"),
    ],
)
def test_what_is_wrong_and_what_helps(
    tmp_path: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    assert main([word.format(path) for word in words]) != 0
    captured = capsys.readouterr()
    assert said.format(path) in captured.err
