"""The services of examples/, as README and guide show them, asked by DCMTK and pynetdicom."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file
from pynetdicom import AE

from support.ports import free_port
from support.processes import program, run, wait_for_port

EXAMPLE = Path(__file__).parents[2] / "examples" / "receiving_scp.py"


@pytest.mark.interop("storescu", "echoscu")
def test_the_function_is_called_for_what_storescu_sends(tmp_path: Path) -> None:
    port, log, script = free_port(), tmp_path / "log", tmp_path / "example.py"
    script.write_text(EXAMPLE.read_text("utf-8").replace("11113", str(port)), "utf-8")
    with program(sys.executable, script, log=log) as process:
        wait_for_port(process, port, log)
        assert run("echoscu", "127.0.0.1", port).returncode == 0
        names = ("CT_small.dcm", "MR_small.dcm")
        done = run(
            "storescu", "-v", "-aet", "CT1", "127.0.0.1", port, *map(get_testdata_file, names)
        )
        assert done.returncode == 0, done.stdout
        assert done.stdout.count("Received Store Response (Success)") == 2
        # One that is broken off in its middle is not given to the function.
        run("storescu", "--abort", "127.0.0.1", port, get_testdata_file("CT_small.dcm"))
        said = log.read_text("utf-8")
    assert said.startswith("CT 38732 bytes from CT1\nMR ")


def test_a_service_of_ones_own(tmp_path: Path) -> None:
    port, log, script = free_port(), tmp_path / "log", tmp_path / "example.py"
    source = EXAMPLE.with_name("own_service.py").read_text("utf-8")
    script.write_text(source.replace("11114", str(port)), "utf-8")
    (clock,) = re.findall(r'^CLOCK = "(.*)"$', source, re.MULTILINE)
    with program(sys.executable, script, log=log) as process:
        wait_for_port(process, port, log)
        ae = AE()
        ae.add_requested_context(clock)
        association = ae.associate("127.0.0.1", port)
        assert association.is_established
        status, attributes = association.send_n_get([], clock, "1.2.3")
        assert status.Status == 0
        assert attributes is not None
        assert re.fullmatch(r"20[0-9]{6}", str(attributes.Date))
        status, _ = association.send_n_action(None, 1, clock, "1.2.3")
        assert status.Status == 0x0211
        association.release()
