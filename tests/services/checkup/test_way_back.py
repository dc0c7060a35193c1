"""C-MOVE and the way back: the archive sends one object to doctor, or it is told why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isocenter.services.checkup.examined import Examined
from isocenter.services.checkup.way_back import Destination, _about_visits, _Visits
from isocenter.services.notices import AssociationRejected, Caller, ConnectionRefused, Refusal
from services.checkup.examining import examined, way_to
from support.processes import ServedArchive, free_port, isocenter_command, served_archive
from support.studies import ROOT, write_studies

pytestmark = pytest.mark.slow


@contextmanager
def archive(folder: Path, *peers: str) -> Iterator[ServedArchive]:
    options = [word for peer in peers for word in ("--peer", peer)]
    with served_archive(folder / "archive", *options) as started:
        yield started


def fill(started: ServedArchive, folder: Path) -> None:
    files = write_studies(folder / "files", studies=1, series=1, instances=3)
    done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{started.port}", *files)
    assert done.returncode == 0, done.stdout


async def moved(started: ServedArchive, to: str, port: int, study: str = "") -> Examined:
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


def destination() -> Destination:
    return Destination(ae_title="BACK", host="127.0.0.1", port=104)


def test_who_comes_and_calls_another_ae_title_is_told() -> None:
    visits = _Visits()
    caller = Caller(
        association="1", address="10.0.0.1:5", calling_ae_title="PACS", called_ae_title="VIEWER"
    )
    why = "called AE title 'VIEWER' is not ours; we are BACK"
    visits.notices.append(AssociationRejected(caller=caller, result=1, source=1, reason=7, why=why))
    (finding,) = _about_visits(destination(), visits)
    assert "the peer came as PACS and called VIEWER" in finding.text
    assert finding.cure.endswith("has to be BACK")


def test_who_comes_with_tls_to_a_port_in_the_clear_is_told() -> None:
    visits = _Visits()
    detail = "TLS on the port for clear text; closed. Use the TLS port"
    visits.notices.append(
        ConnectionRefused(address="10.0.0.1:5", refusal=Refusal.WRONG_PROTOCOL, detail=detail)
    )
    (finding,) = _about_visits(destination(), visits)
    assert "TLS on the port for clear text" in finding.text
    assert "--move-tls" in finding.cure
