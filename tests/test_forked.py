"""Commands that are forked are processes like those that are started."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from support.forked import ForkedProcess
from support.processes import ISOCENTER, program, run, served_archive, wait_for_line


def test_output_errors_and_exit_code_come_back(tmp_path: Path) -> None:
    helped = run(*ISOCENTER, "echoscu", "--help")
    assert (helped.returncode, helped.stdout[:24]) == (0, "usage: isocenter echoscu")

    wrong = run(*ISOCENTER, "dcmtojson", "missing.dcm", cwd=tmp_path)
    assert wrong.returncode not in (0, None)
    assert "missing.dcm" in wrong.stdout


def test_environment_and_folder_are_those_of_the_call(tmp_path: Path) -> None:
    (tmp_path / "here.toml").write_text('[server]\nae_title = "HERE"\n')
    for title, variables in (("HERE", {}), ("THERE", {"ISOCENTER__SERVER__AE_TITLE": "THERE"})):
        words = (*ISOCENTER, "config", "explain", "server.ae_title", "--config", "here.toml")
        log = tmp_path / title
        with program(*words, log=log, cwd=tmp_path, environment=variables) as process:
            assert isinstance(process, ForkedProcess)
            assert process.wait(120) == 0, log.read_text()
        assert title in log.read_text()


def test_what_concerns_python_itself_is_started_anew(tmp_path: Path) -> None:
    words = (*ISOCENTER, "--help")
    variables = {"PYTHONWARNINGS": "error"}
    with program(*words, log=tmp_path / "log", environment=variables) as process:
        assert not isinstance(process, ForkedProcess)
        assert process.wait(120) == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)]
)
def test_signals_arrive_also_while_somebody_waits(tmp_path: Path, number: int, code: int) -> None:
    with served_archive(tmp_path) as archive:
        assert archive.process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            archive.process.wait(0)
        codes: list[int] = []
        waiting = threading.Thread(target=lambda: codes.append(archive.process.wait()))
        waiting.start()
        archive.process.send_signal(number)
        waiting.join(120)
        assert codes == [code]
        assert archive.process.poll() == code
        archive.process.send_signal(number)  # to nobody


def test_ctrl_c_ends_a_command(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = (*ISOCENTER, "serve", "--no-tls", "--port", "0", "--data-dir", tmp_path / "data")
    with program(*words, log=log) as process:
        wait_for_line(process, "^ready ", log)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) in (0, 130)
