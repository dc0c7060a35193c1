"""The steps of examples/learning, each run and asked by programs that we did not write."""

from __future__ import annotations

import ssl
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from pydicom.data import get_testdata_file

from isocenter.services.testing import SyntheticData
from support.ports import free_port
from support.processes import (
    ISOCENTER,
    isocenter_command,
    program,
    run,
    wait_for_line,
    wait_for_port,
)

STEPS = Path(__file__).parents[2] / "examples" / "learning"
pytestmark = [pytest.mark.slow, pytest.mark.interop("storescu", "echoscu", "findscu")]


def test_hello(tmp_path: Path) -> None:
    done = run(sys.executable, STEPS / "hello_dicom.py", tmp_path)
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith("the same again: True")
    shown = run("dcmdump", tmp_path / "hello.dcm")
    assert "made by hello_dicom" in shown.stdout
    assert "(0040,0275) SQ" in shown.stdout


def test_an_echo_server(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with program(sys.executable, STEPS / "echo_server.py", "--port", port, log=log) as process:
        wait_for_line(process, f"listening on 127.0.0.1:{port}", log)
        assert run("echoscu", "-aec", "ECHO", "127.0.0.1", port).returncode == 0
        assert run("echoscu", "-aec", "OTHER", "127.0.0.1", port).returncode != 0
        wait_for_line(process, "ECHOSCU was rejected", log)
    text = log.read_text()
    assert "C-ECHO was answered with 0000H" in text
    assert "an association has ended after 1 operations" in text


def test_a_storage_server(tmp_path: Path) -> None:
    port, log, folder = free_port(), tmp_path / "log", tmp_path / "objects"
    words = (sys.executable, STEPS / "storage_server.py", folder, "--port", port)
    with program(*words, log=log) as process:
        wait_for_port(process, port, log)
        assert run("storescu", "127.0.0.1", port, get_testdata_file("CT_small.dcm")).returncode == 0
        (image,) = SyntheticData().write(tmp_path / "files", iter([SyntheticData().cr()]))
        refused = run("storescu", "-v", "127.0.0.1", port, image)
        assert "0x124" in refused.stdout.lower().replace("x0124", "x124")
        wait_for_line(process, r"kept .*: \{'CT': 1\}", log)
    assert len(list(folder.rglob("*.dcm"))) == 1


def test_a_small_pacs(tmp_path: Path) -> None:
    port, log, folder = free_port(), tmp_path / "log", tmp_path / "data"
    words = (sys.executable, STEPS / "mini_pacs.py", folder, "--port", port)
    with program(*words, log=log) as process:
        wait_for_port(process, port, log)
        assert run("storescu", "127.0.0.1", port, get_testdata_file("CT_small.dcm")).returncode == 0
        found = run("findscu", "-S", "127.0.0.1", port, "-k", "0008,0052=STUDY", "-k", "0010,0020")
        assert "1CT1" in found.stdout
        planned = run("findscu", "-W", "127.0.0.1", port, "-k", "0010,0020")
        assert "SYN00001" in planned.stdout
        wait_for_line(process, "'C-STORE': 1.*'C-FIND': 2", log)


def test_a_pacs_in_production(tmp_path: Path) -> None:
    settings = yaml.safe_load((STEPS / "production_pacs.yaml").read_text())
    for section, name, value in (
        ("tls", "host", "127.0.0.1"),
        ("tls", "port", 0),
        ("web", "port", 0),
        ("web", "https_host", "127.0.0.1"),
        ("web", "https_port", 0),
        ("monitoring", "port", 0),
    ):
        settings[section][name] = value
    config, log = tmp_path / "pacs.yaml", tmp_path / "log"
    config.write_text(yaml.safe_dump(settings))
    assert isocenter_command("serve", "--config", config, "--check-config").returncode == 0
    with program(*ISOCENTER, "serve", "--config", config, log=log) as process:
        ready = wait_for_line(process, r"^ready dicom-tls://127\.0\.0\.1:(\d+) .*", log)
        ca = tmp_path / "production-data" / "certs"
        done = isocenter_command(
            "certs", "issue", "CT1", "--ca-dir", ca, "--out", tmp_path, "--host", "127.0.0.1"
        )
        assert done.returncode == 0, done.stdout
        files = [tmp_path / name for name in ("CT1.key", "CT1.crt", "ca.crt")]
        words = ("+tls", files[0], files[1], "+cf", files[2], "-aet", "CT1", "-aec", "PACS")
        assert run("echoscu", *words, "127.0.0.1", ready[1]).returncode == 0
        refused = run("echoscu", "-aec", "PACS", "127.0.0.1", ready[1])
        assert refused.returncode != 0
        where = wait_for_line(process, r"metrics and health +(http://\S+)/metrics", log)[1]
        for page, says in (("health", "healthy"), ("metrics", "isocenter_associations")):
            with urllib.request.urlopen(f"{where}/{page}") as answer:
                assert says in answer.read().decode()
        https = next(word for word in ready[0].split() if word.startswith("https://"))
        context = ssl.create_default_context(cafile=str(files[2]))
        context.check_hostname = False
        with pytest.raises(urllib.error.HTTPError) as unknown:
            urllib.request.urlopen(f"{https}/studies", context=context)
        assert unknown.value.code == 401
        unknown.value.close()
