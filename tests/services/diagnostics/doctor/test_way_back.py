"""C-MOVE and the way back: the archive sends one object to doctor, or it is told why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isocenter.engine.dimse.message_codec import response_to
from isocenter.engine.errors import AssociationRejectedError
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services import Peer, open_association
from isocenter.services.association.operation import Operation
from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.doctor.move_destination import (
    Destination,
    _findings_of_visits,
    _Visits,
)
from isocenter.services.dicom.uid_registry import STUDY_ROOT_FIND, STUDY_ROOT_MOVE
from isocenter.services.notices import ConnectionRefused, RefusalReason
from services.diagnostics.doctor.examining import examined, way_to
from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive
from support.serving import Scripted, port_of, serving
from support.studies import ROOT, write_studies

pytestmark = pytest.mark.slow

CONTEXTS = [(VERIFICATION, (IMPLICIT_VR_LITTLE_ENDIAN,))]
#: PS3.4 C.4.2.1.5: sub-operations cannot be performed.
UNABLE_TO_PERFORM = 0xA702


@contextmanager
def archive(folder: Path, *peers: str) -> Iterator[ServedArchive]:
    options = [word for peer in peers for word in ("--peer", peer)]
    with served_archive(folder / "archive", *options) as started:
        yield started


def fill(started: ServedArchive, folder: Path) -> None:
    files = write_studies(folder / "files", studies=1, series=1, instances=3)
    done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{started.port}", *files)
    assert done.returncode == 0, done.stdout


async def moved(started: ServedArchive, to: str, port: int, study: str = "") -> CheckResult:
    destination = Destination(ae_title=to, host="127.0.0.1", port=port, study_uid=study)
    found = await examined(way_to(started.port), move_to=destination)
    return found.named("C-MOVE")


async def test_the_way_back(tmp_path: Path) -> None:
    """One object comes; a study that is named comes whole."""
    back, gone = free_port(), free_port()
    peers = (f"BACK@127.0.0.1:{back}", f"GONE@127.0.0.1:{gone}")
    with archive(tmp_path, *peers) as started:
        empty = await moved(started, "BACK", back)
        assert "has no study" in empty.findings[0].text

        fill(started, tmp_path)
        one = await moved(started, "BACK", back)
        assert one.findings == ()
        assert one.facts == {"status": "0000", "objects": 1}
        whole = await moved(started, "BACK", back, f"{ROOT}.1")
        assert whole.facts["objects"] == 3

        unknown = await moved(started, "NOBODY", back)
        assert unknown.facts["status"] == "A801"
        assert "does not know the destination NOBODY" in unknown.findings[0].text
        assert f"port {back}" in unknown.findings[0].cure

        # It knows GONE at another port than ours.
        elsewhere = await moved(started, "GONE", back)
        assert f"nobody came to port {back}" in elsewhere.findings[0].text


async def test_a_port_that_somebody_has_cannot_be_the_destination(tmp_path: Path) -> None:
    with archive(tmp_path, "BACK@127.0.0.1:1") as started:
        found = await moved(started, "BACK", started.port)
    assert "the port is in use" in found.findings[0].text


async def test_a_peer_that_calls_us_by_another_name(tmp_path: Path) -> None:
    """Its entry of the destination has our port, and an AE title that is not ours."""
    port = free_port()

    async def perform(operation: Operation) -> None:
        async for _ in operation.fragments():
            pass
        viewer = Peer("VIEWER", "127.0.0.1", port)
        with pytest.raises(AssociationRejectedError):
            async with open_association(viewer, CONTEXTS, calling_ae_title="PACS"):
                pass
        await operation.respond(response_to(operation.request, UNABLE_TO_PERFORM))

    service = Scripted([STUDY_ROOT_MOVE, STUDY_ROOT_FIND], perform)
    async with serving(service) as server:
        to_us = Destination(ae_title="BACK", host="127.0.0.1", port=port, study_uid="1.2.3")
        found = (await examined(way_to(port_of(server)), move_to=to_us)).named("C-MOVE")
    (finding,) = found.findings
    assert "the peer came as PACS and called VIEWER" in finding.text
    assert finding.cure.endswith("has to be BACK")


def destination() -> Destination:
    return Destination(ae_title="BACK", host="127.0.0.1", port=104)


def test_who_comes_with_tls_to_a_port_in_the_clear_is_told() -> None:
    visits = _Visits()
    detail = "TLS on the port for clear text; closed. Use the TLS port"
    visits.notices.append(
        ConnectionRefused(address="10.0.0.1:5", refusal=RefusalReason.WRONG_PROTOCOL, detail=detail)
    )
    (finding,) = _findings_of_visits(destination(), visits)
    assert "TLS on the port for clear text" in finding.text
    assert "--move-tls" in finding.cure
