"""Rules that are made while `isocenter serve` runs, with DCMTK's programs on both sides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydicom import dcmread

from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_port,
    wait_until,
)
from support.studies import ROOT, write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop("storescu", "storescp"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]


def send(archive: ServedArchive, *files: object, called: str = "ISOCENTER") -> None:
    done = run("storescu", "-aec", called, "127.0.0.1", archive.port, *files)
    assert done.returncode == 0, done.stdout


def command(archive: ServedArchive, *words: object, code: int = 0) -> str:
    noun, action, *rest = words
    done = isocenter_command(noun, action, "--data-dir", archive.data_dir, *rest)
    assert done.returncode == code, done.stdout
    return done.stdout


def rules(archive: ServedArchive) -> dict[str, dict[str, Any]]:
    found = orjson.loads(command(archive, "rules", "list", "--json"))
    return {one["name"]: one for one in found}


def records(archive: ServedArchive) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = orjson.loads(command(archive, "queue", "list", "--json"))
    return found


def states(archive: ServedArchive) -> Counter[str]:
    return Counter(one["state"] for one in records(archive))


def in_use(archive: ServedArchive, revision: int, workers: int) -> bool:
    """Whether each worker has said that it has the rules of that revision."""
    text = archive.log.read_text()
    return text.count(f"rules of the database, revision {revision}: in use") >= workers


def test_a_rule_holds_in_every_worker_and_sends_to_a_node(tmp_path: Path) -> None:
    first, second = write_studies(tmp_path / "in", studies=2, series=1, instances=1)
    port, received = free_port(), tmp_path / "received"
    received.mkdir()
    log = tmp_path / "storescp.log"
    with (
        program("storescp", "-aet", "FAR", "-od", received, port, log=log) as scp,
        served_archive(tmp_path / "ours", "--workers", 2) as archive,
    ):
        wait_for_port(scp, port, log)
        send(archive, first)
        fault = command(archive, "rules", "add", "all", "--forward", "far away", code=2)
        assert "far away is neither a node nor one of the peers" in fault
        command(archive, "node", "add", f"FAR@127.0.0.1:{port}", "--name", "far away")
        command(
            archive, "rules", "add", "all", "--when", "modality=CT", "--forward", "far away"
        )  # fmt: skip
        wait_until(lambda: in_use(archive, 1, 2), archive.process)
        send(archive, second)
        wait_until(lambda: states(archive) == {"done": 1}, archive.process)
        wait_until(lambda: rules(archive)["all"]["matched"] == 1, archive.process)
        assert rules(archive)["all"]["sent"] == 1
        # What came before the rule is not meant; it is told what would be done with it now.
        told = command(archive, "rules", "explain", f"{ROOT}.1")
        assert "all: matches" in told
        assert "what rules did" not in told
        assert "what rules did" in command(archive, "rules", "explain", f"{ROOT}.2")
        command(archive, "rules", "disable", "all")
        told = command(archive, "rules", "explain", second)
        assert "all: does not match: it is switched off" in told
    got = {str(dcmread(path).SOPInstanceUID) for path in received.iterdir()}
    assert got == {str(dcmread(second).SOPInstanceUID)}
    trail = isocenter_command("audit", "show", "--data-dir", archive.data_dir, "--json").stdout
    assert "rule 'all' was added" in trail
    assert "rule 'all' was switched off" in trail
