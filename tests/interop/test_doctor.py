"""`isocenter doctor` with peers that we did not write."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.peers import Site, dcmqrscp, orthanc, qrscp
from support.ports import free_port
from support.processes import (
    isocenter_command,
    options_for_tls,
    program,
    wait_for_port,
)
from support.studies import write_studies

pytestmark = [pytest.mark.interop, pytest.mark.slow]


def doctor(
    peer: str, port: int, *options: object, called: str = "DOCTOR"
) -> tuple[int, dict[str, Any]]:
    """Exit code, and what was examined, by name."""
    done = isocenter_command(
        "doctor", f"{peer}@127.0.0.1:{port}", "-aet", called, "--json", *options
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {line["what"]: line for line in lines[:-1]}


def problems(found: dict[str, Any]) -> list[str]:
    return [
        finding["text"]
        for one in found.values()
        for finding in one["findings"]
        if finding["severity"] in ("warning", "error")
    ]


def storescp(
    folder: Path, *options: object, nagle: bool = False
) -> tuple[Sequence[object], dict[str, str]]:
    """DCMTK's receiver: its command without the port, and its environment."""
    words = ("storescp", "-aet", "STORE", "-od", folder, "--fork", *options)
    return words, {"TCP_NODELAY": "0" if nagle else "1"}


@pytest.mark.parametrize("nagle", [False, True], ids=["nodelay", "nagle"])
def test_dcmtks_storescp(nagle: bool, tmp_path: Path) -> None:
    words, environment = storescp(tmp_path, nagle=nagle)
    port, log = free_port(), tmp_path / "storescp.log"
    with program(*words, port, log=log, environment=environment) as process:
        wait_for_port(process, port, log)
        code, found = doctor("STORE", port, "--store")
    assert found["association"]["facts"]["implementation_version_name"].startswith("OFFIS_DCMTK")
    assert found["C-STORE"]["facts"]["status"] == "0000"
    assert len(found["storage"]["facts"]["accepted"]) > 100
    assert code == int(nagle), found
    if nagle:
        (problem,) = problems(found)
        assert "waits" in problem
        assert found["C-ECHO"]["facts"]["delayed_acknowledgements_ms"] > 30


def test_dcmtks_storescp_that_refuses_everybody(tmp_path: Path) -> None:
    words, environment = storescp(tmp_path, "--refuse")
    port, log = free_port(), tmp_path / "storescp.log"
    with program(*words, port, log=log, environment=environment) as process:
        wait_for_port(process, port, log)
        code, found = doctor("STORE", port)
    assert code == 1
    assert "rejected" in found["association"]["findings"][0]["text"]


def test_dcmtks_dcmqrscp_and_the_way_back(tmp_path: Path) -> None:
    back = free_port()
    with dcmqrscp(tmp_path, destinations={"BACK": back}) as peer:
        code, found = doctor("WRONG", peer.port)
        assert code == 1
        assert "called AE title not recognized" in problems(found)[0]

        files = write_studies(tmp_path / "files", studies=1, series=1, instances=2)
        stored = isocenter_command("storescu", f"QRSCP@127.0.0.1:{peer.port}", *files)
        assert stored.returncode == 0, stored.stdout
        options = ("--find", "--move-to", "BACK", "--move-port", back)
        code, found = doctor("QRSCP", peer.port, *options, called="BACK")
        assert code == 0, found
        assert found["C-MOVE"]["facts"] == {"status": "0000", "objects": 1}

        code, found = doctor("QRSCP", peer.port, "--move-to", "NOBODY", "--move-port", back)
        assert code == 1
        assert "does not know the destination NOBODY" in problems(found)[-1]


def test_pynetdicoms_qrscp_and_the_way_back(tmp_path: Path) -> None:
    back = free_port()
    with qrscp(tmp_path, destinations={"BACK": back}) as peer:
        code, found = doctor("QRSCP", peer.port, "--find", "--store")
        assert found["C-STORE"]["facts"]["status"] == "0000", found
        assert found["C-FIND"]["result"] == "ok"
        assert code == int(bool(problems(found)))
        code, found = doctor("QRSCP", peer.port, "--move-to", "BACK", "--move-port", back)
        assert found["C-MOVE"]["facts"]["objects"] == 1, found


@pytest.mark.interop("Orthanc")
def test_orthanc_over_tls_and_the_way_back(tmp_path: Path) -> None:
    site, port, back = Site(tmp_path), free_port(), free_port()
    modalities = {"back": {"AET": "BACK", "Host": "127.0.0.1", "Port": back, "UseDicomTls": True}}
    tls = options_for_tls(site.names("BACK"), style="ours")
    with orthanc(
        tmp_path / "orthanc", modalities=modalities, dicom_port=port, tls=site.names("ORTHANC")
    ) as peer:
        code, found = doctor("ORTHANC", port)
        assert code == 1
        assert problems(found) == ["the peer speaks TLS on this port"]

        options = (
            *tls,
            "--store",
            "--find",
            "--move-to",
            "BACK",
            "--move-port",
            back,
            "--move-tls",
        )
        code, found = doctor("ORTHANC", port, *options, called="BACK")
        assert found["TLS"]["facts"]["version"].startswith("TLSv1."), found
        assert found["C-MOVE"]["facts"]["objects"] == 1, found
        assert len(peer.get("/instances")) == 1
        assert code == int(bool(problems(found)))

        # With a certificate of nobody's CA.
        (tmp_path / "stranger").mkdir()
        stranger = Site(tmp_path / "stranger")
        code, found = doctor(
            "ORTHANC", port, *options_for_tls(stranger.names("BACK"), style="ours")
        )
        assert code == 1
        assert re.search("(unknown|not trusted) here", problems(found)[0])


def test_pynetdicoms_echoscp(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "echoscp.log"
    words = (sys.executable, "-m", "pynetdicom", "echoscp", port)
    with program(*words, log=log, cwd=tmp_path) as process:
        wait_for_port(process, port, log)
        _, found = doctor("ANY-SCP", port)
    assert found["services"]["facts"]["accepted"] == ["1.2.840.10008.1.1"]
    assert found["storage"]["facts"]["accepted"] == []
