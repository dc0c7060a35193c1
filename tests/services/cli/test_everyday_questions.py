"""What an operator asks every day, each answered by one command while the server runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from isocenter.services.cli import main
from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive
from support.studies import ROOT, write_studies

pytestmark = pytest.mark.slow

STUDY = f"{ROOT}.1"


def until(is_so: Callable[[], bool], what: str) -> None:
    """Ask again until it is; each question is a process of its own, which takes its time."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, f"not seen: {what}"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedArchive]:
    """Two studies came from CT1; C-MOVE was asked to go where it cannot."""
    folder = tmp_path_factory.mktemp("everyday")
    write_studies(folder / "in", studies=2, series=1, instances=2)
    nobody = f"DEAD@127.0.0.1:{free_port()}"
    with served_archive(folder, "--peer", nobody) as archive:
        peer = ("-aec", "ISOCENTER", "127.0.0.1", archive.port)
        sent = isocenter_command("storescu", "-q", "-aet", "CT1", *peer, folder / "in")
        assert sent.returncode == 0, sent.stdout
        for destination in ("NOWHERE", "DEAD"):
            asked = isocenter_command(
                "movescu", "-S", "-aet", "WS7", "-aem", destination, *peer, "-L", "STUDY",
                "-k", f"StudyInstanceUID={STUDY}",
            )  # fmt: skip
            assert asked.returncode != 0
        got = isocenter_command(
            "findscu", "-S", "-aet", "WS8", *peer, "-L", "STUDY", "-k", "PatientID=P1",
        )  # fmt: skip
        assert got.returncode == 0, got.stdout
        yield archive


def lines(archive: ServedArchive, *words: str) -> list[str]:
    done = isocenter_command(*words, "--data-dir", archive.data_dir)
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def test_what_arrived_today_from_ct1(archive: ServedArchive) -> None:
    def tail(*words: str) -> list[str]:
        return lines(archive, "events", "tail", "--kind", "series.opened", *words)

    assert len(tail("--ae", "CT1", "--since", "today")) == 2
    assert len(tail("--ae", "CT1", "--since", "today", "-n", "1")) == 1
    assert tail("--ae", "CT2") == tail("--until", "today") == tail("--modality", "XX") == []
    # Neither a part of the title, nor what LIKE takes for any character, nor small letters.
    assert (
        tail("--ae", "CT") == tail("--ae", "CT_") == tail("--ae", "C%") == tail("--ae", "ct1") == []
    )
    (line, _) = tail("--ae", "CT1")
    modality = line.partition("modality=")[2].split()[0]
    assert len(tail("--modality", modality)) == 2
    by_study = lines(
        archive, "audit", "show", "--ae", "CT1", "--event", "110104", "--since", "today"
    )
    assert len(by_study) == 2
    assert all("(2 instances)" in line for line in by_study)


def test_why_a_c_move_failed(archive: ServedArchive) -> None:
    def events() -> dict[str, dict[str, object]]:
        told = lines(archive, "events", "tail", "--kind", "retrieve.failed", "--json")
        return {str(each["destination"]): each for each in map(orjson.loads, told)}

    until(lambda: len(events()) == 2, "both failures are events")
    unknown, dead = events()["NOWHERE"], events()["DEAD"]
    assert (unknown["status"], unknown["calling_ae_title"]) == ("A801", "WS7")
    assert unknown["study_instance_uid"] == dead["study_instance_uid"] == STUDY
    assert "is no peer of ours" in str(unknown["why"])
    assert (dead["status"], dead["failed"], dead["completed"]) == ("A702", 2, 0)
    assert "refused" in str(dead["why"])
    assert len(lines(archive, "events", "tail", "--ae", "NOWHERE")) == 1

    def recorded() -> list[str]:
        return lines(archive, "audit", "show", "--ae", "WS7", "--event", "110104")

    until(lambda: len(recorded()) == 2, "both failures are in the audit trail")
    first, second = recorded()
    assert (
        f"WS7@127.0.0.1 | {STUDY} (0 instances) | C-MOVE to NOWHERE failed, status A801H" in first
    )
    assert "the destination 'NOWHERE' is no peer of ours" in first
    assert f"{STUDY} (2 instances) | C-MOVE sub-operations failed: " in second
    assert "refused" in second
    assert all(" minor " in line for line in (first, second))


def test_who_read_this_patient(archive: ServedArchive) -> None:
    def about(patient: str, *words: str) -> list[str]:
        return lines(archive, "audit", "show", "--patient", patient, *words)

    until(lambda: bool(about("P1", "--event", "query")), "the query is in the audit trail")
    (query,) = about("P1", "--event", "query")
    assert "WS8@127.0.0.1" in query
    assert len(about("P1", "--ae", "WS7")) >= 2, "the C-MOVEs were of the patient"
    assert about("P") == about("*") == about("P12") == []


def test_what_is_not_forwarded_yet(archive: ServedArchive) -> None:
    assert lines(archive, "queue", "list", "--unsent") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("events", "tail", "--since", "soon"), "is no time; write today, yesterday"),
        (("events", "tail", "--ae", "A" * 17), "is not an AE title"),
        (("events", "tail", "--modality", "ct"), "is no modality"),
        (("audit", "show", "--until", "0001-01-01"), "is no time"),
        (("queue", "list", "--unsent", "--state", "due"), "not allowed with"),
    ],
)
def test_wrong_questions(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_what_is_to_come_has_no_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["events", "tail", "-f", "--until", "today", "--data-dir", str(tmp_path)]
    assert main(words) == 2
