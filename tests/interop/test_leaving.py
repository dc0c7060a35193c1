"""Ctrl-C in a program that uses the library: what pynetdicom and DCMTK hear of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from isocenter.engine.uid import VERIFICATION
from isocenter.services.dicom import uid_registry as sop_classes
from support.ports import free_port
from support.processes import STOP_SECONDS, program, wait_for_line, wait_for_port

PROGRAM = """
import sys
import trio
from isocenter.services import Peer, build_identifier, open_association
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.archive.index.attributes import Level

SOP_CLASS = sys.argv[2]

async def main():
    peer = Peer("PEER", "127.0.0.1", int(sys.argv[1]))
    async with open_association(peer, [(SOP_CLASS, BASIC_SYNTAXES)]) as association:
        if SOP_CLASS == "1.2.840.10008.1.1":
            await association.echo()
            print("there", flush=True)
            await trio.sleep_forever()
        def identifier(syntax):
            return build_identifier([("StudyInstanceUID", "")], Level.STUDY, syntax)

        async for match in association.find(identifier):
            print("there", flush=True)

try:
    trio.run(main)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
"""


@contextmanager
def interrupted(tmp_path: Path, port: int, sop_class: str) -> Iterator[None]:
    """The program above, once it has got Ctrl-C and is over."""
    log = tmp_path / "program.log"
    with program(sys.executable, "-c", PROGRAM, port, sop_class, log=log) as process:
        wait_for_line(process, "there", log)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(STOP_SECONDS) == 130, log.read_text()
        except subprocess.TimeoutExpired:
            pytest.fail("it did not end")
    assert log.read_text().endswith("interrupted\n")
    yield


def test_pynetdicom_sees_the_cancel_and_the_abort(tmp_path: Path) -> None:
    heard: list[str] = []
    over = threading.Event()

    def find(event: Any) -> Iterator[tuple[int, Dataset | None]]:
        match = Dataset()
        match.QueryRetrieveLevel, match.StudyInstanceUID = "STUDY", "1.2.3"
        yield 0xFF00, match
        for _ in range(1_000):
            if event.is_cancelled:  # true once
                heard.append("C-CANCEL")
                yield 0xFE00, None
                return
            if over.wait(0.01):
                return

    def aborted(_: Any) -> None:
        heard.append("A-ABORT")
        over.set()

    ae = AE(ae_title="PEER")
    ae.add_supported_context(sop_classes.STUDY_ROOT_FIND)
    port = free_port()
    handlers = [(evt.EVT_C_FIND, find), (evt.EVT_ABORTED, aborted)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        with interrupted(tmp_path, port, sop_classes.STUDY_ROOT_FIND):
            assert over.wait(STOP_SECONDS)
    finally:
        server.shutdown()
    assert heard == ["C-CANCEL", "A-ABORT"]


@pytest.mark.interop("storescp")
def test_dcmtk_sees_the_abort(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "storescp.log"
    with program("storescp", "-v", port, log=log, cwd=tmp_path) as process:
        wait_for_port(process, port, log)
        with interrupted(tmp_path, port, VERIFICATION):
            wait_for_line(process, "Association Aborted|Peer aborted", log)
