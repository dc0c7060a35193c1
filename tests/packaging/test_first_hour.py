"""docs/how-to/install-as-a-service.md, word for word, but for what needs root or systemd."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ports import free_port
from support.processes import ENVIRONMENT, RUN_SECONDS, program, wait_for_line

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "install-as-a-service.md"
AS_SERVICE = "sudo -u isocenter "


def blocks() -> Iterator[tuple[str, bool, list[str]]]:
    """(section, whether root types it, its lines) of each block of commands."""
    section, lines, is_root = "", list[str](), False
    for line in [*PAGE.read_text().splitlines(), "end"]:
        if line.startswith("    "):
            lines.append(line[4:])
            continue
        if not line and lines:
            continue
        if lines:
            yield section, is_root, lines
            lines, is_root = [], False
        if line.startswith("## "):
            section = line[3:]
        is_root = line == "**root**" or (is_root and not line)


def test_root_installs_what_is_there() -> None:
    """Every file of the checkout that is named exists, and every unit is installed."""
    commands = [line for _, is_root, lines in blocks() if is_root for line in lines]
    named = {word for line in commands for word in line.split() if word.startswith("packaging/")}
    for name in named:
        assert (ROOT / name).is_file(), name
    units = {f"packaging/systemd/{path.name}" for path in (ROOT / "packaging/systemd").iterdir()}
    assert units <= named


def test_blocks_are_typed_as_somebody() -> None:
    for section, is_root, lines in blocks():
        for line in lines:
            if section == "Sandboxing":
                continue
            assert is_root or line.removeprefix("! ").startswith(AS_SERVICE), line
            assert not (is_root and AS_SERVICE in line), line


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the page is for Debian")
def test_the_hour(tmp_path: Path) -> None:
    """Settings and data in another place, other ports, no sudo; the rest as it stands."""
    etc, data, port, tls_port = tmp_path / "etc", tmp_path / "data", free_port(), free_port()
    etc.mkdir()
    data.mkdir(mode=0o700)
    config = etc / "isocenter.toml"
    places = {
        "/etc/isocenter/isocenter.toml": str(config),
        "/var/lib/isocenter": str(data),
        ":11112": f":{port}",
        ":2762": f":{tls_port}",
    }

    def here(text: str) -> str:
        for there, place in places.items():
            text = text.replace(there, place)
        return text

    installed = (ROOT / "packaging/systemd/isocenter.toml").read_text()
    config.write_text(
        here(installed).replace("[server]\n", f"[server]\nport = {port}\n")
        + f'\n[tls]\nhost = "127.0.0.1"\nport = {tls_port}\n'
    )
    isocenter = f"{sys.executable} -m isocenter.services.cli "
    before, after = [], []
    for section, is_root, lines in blocks():
        if not is_root and re.match(r"\d", section):
            (before if section.startswith("2") else after).extend(lines)
    assert len(before) == 2
    assert len(after) >= 9

    def type_in(line: str) -> None:
        should_fail = line.startswith("! ")
        command = here(line.removeprefix("! ").removeprefix(AS_SERVICE))
        assert command.startswith("isocenter "), line
        done = subprocess.run(
            isocenter + command.removeprefix("isocenter "),
            shell=True, check=False, text=True, timeout=RUN_SECONDS, cwd=tmp_path,
            env={**ENVIRONMENT, "HOME": str(tmp_path)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode != 0) == should_fail, f"{line}\n{done.stdout}"

    for line in before:
        type_in(line)
    log = tmp_path / "serve.log"
    words = ("-m", "isocenter.services.cli", "serve", "--config", config)
    with program(sys.executable, *words, log=log) as process:
        wait_for_line(process, r"^ready ", log)
        for line in after:
            type_in(line)
    assert "calling AE title 'CT2'" in log.read_text(), "the log says why it was rejected"
