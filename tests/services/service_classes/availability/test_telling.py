"""A RIS is told what it can retrieve, by the real server, once a study is complete."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from services.service_classes.availability.test_notification import ris, told
from support.processes import isocenter_command, served_archive
from support.studies import ROOT, write_studies

SECONDS = 120.0


def configuration(port: int, *, peer: str = "RIS", more: str = "") -> str:
    return f"""
[events]
quiet_seconds = 3

[[peers]]
ae_title = "{peer}"
host = "127.0.0.1"
port = {port}

[[events.consumers]]
name = "ris"
availability = "RIS"
{more}
"""


class Received(list[tuple[str, str, Dataset]]):
    """Notifications, and a way to wait for the next."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Semaphore(0)

    def append(self, item: tuple[str, str, Dataset]) -> None:
        super().append(item)
        self.came.release()


@pytest.mark.slow
def test_a_ris_hears_of_a_complete_study(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1)
    received = Received()
    with ris(received, 0x0000) as port:
        config = tmp_path / "isocenter.toml"
        config.write_text(configuration(port))
        with served_archive(tmp_path / "served", "--config", config) as archive:
            done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{archive.port}", *files)
            assert done.returncode == 0, done.stdout
            assert received.came.acquire(timeout=SECONDS)
        ((_, _, data),) = received
    assert data.StudyInstanceUID == f"{ROOT}.1"
    assert sorted(told(data)) == [f"{ROOT}.1.{a}.{b}" for a in (1, 2) for b in (1, 2)]
    (reference, *_) = data.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert reference.RetrieveAETitle == "ISOCENTER"
    assert len(data.ReferencedPerformedProcedureStepSequence) == 0


@pytest.mark.slow
def test_a_ris_hears_what_was_deleted_and_restored(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1)
    received = Received()

    def heard(availability: str) -> list[str]:
        assert received.came.acquire(timeout=SECONDS)
        data = received[-1][2]
        assert data.StudyInstanceUID == f"{ROOT}.1"
        for series in data.ReferencedSeriesSequence:
            for reference in series.ReferencedSOPSequence:
                assert reference.InstanceAvailability == availability
                assert reference.RetrieveAETitle == "ISOCENTER"
                assert reference.ReferencedSOPInstanceUID.startswith(series.SeriesInstanceUID)
        return sorted(told(data))

    with ris(received, 0x0000) as port:
        config = tmp_path / "isocenter.toml"
        config.write_text(configuration(port))
        with served_archive(tmp_path / "served", "--config", config) as archive:

            def call(*words: object) -> str:
                done = isocenter_command(*words, "--data-dir", archive.data_dir)
                assert done.returncode == 0, done.stdout
                return done.stdout

            done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{archive.port}", *files)
            assert done.returncode == 0, done.stdout
            everything = heard("ONLINE")
            assert len(everything) == 4
            # The command need not know who is told.
            call("delete", "--series", f"{ROOT}.1.1", "--reason", "a test", "--yes")
            assert heard("UNAVAILABLE") == everything[:2]
            call("delete", "--study", f"{ROOT}.1", "--reason", "a test", "--yes")
            assert heard("UNAVAILABLE") == everything[2:]
            call("trash", "restore", "--study", f"{ROOT}.1")
            # An event for each group that came back; in the end it has heard of everything.
            while heard("ONLINE") != everything:
                pass


@pytest.mark.slow
def test_what_came_back_before_it_was_told_is_not_gone(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1)
    received = Received()
    config = tmp_path / "isocenter.toml"
    with ris(received, 0x0000) as port:
        config.write_text(configuration(port))
    # The RIS is away now.
    with served_archive(tmp_path / "served", "--config", config) as archive:
        done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{archive.port}", *files)
        assert done.returncode == 0, done.stdout
    data = tmp_path / "served" / "data"
    done = isocenter_command(
        "delete", "--study", f"{ROOT}.1", "--reason", "x", "--yes", "--data-dir", data
    )
    assert done.returncode == 0, done.stdout
    done = isocenter_command("import", files[0], "--data-dir", data)
    assert done.returncode == 0, done.stdout
    with ris(received, 0x0000) as port:
        config.write_text(configuration(port, more="longest_retry = 0.1"))
        with served_archive(tmp_path / "served", "--config", config):
            gone: set[str] = set()
            there: set[str] = set()
            while not gone or not there:
                assert received.came.acquire(timeout=SECONDS)
                data_set = received[-1][2]
                reference = data_set.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
                known = gone if reference.InstanceAvailability == "UNAVAILABLE" else there
                known.update(told(data_set))
    assert len(gone) == 3
    assert len(there) == 1
    assert not gone & there


@pytest.mark.slow
def test_a_ris_that_refuses_is_told_again(tmp_path: Path) -> None:
    files = write_studies(tmp_path / "in", studies=1)
    received = Received()
    with ris(received, 0x0110) as port:
        config = tmp_path / "isocenter.toml"
        config.write_text(configuration(port, more="longest_retry = 0.1"))
        with served_archive(tmp_path / "served", "--config", config) as archive:
            done = isocenter_command("storescu", f"ISOCENTER@127.0.0.1:{archive.port}", *files)
            assert done.returncode == 0, done.stdout
            for _ in range(2):
                assert received.came.acquire(timeout=SECONDS)
            listed = isocenter_command(
                "events", "consumers", "--config", config, "--data-dir", archive.data_dir
            )
    assert "0110H" in listed.stdout


@pytest.mark.parametrize(
    ("peer", "more", "says"),
    [
        ("VIEWER", "", "RIS is none of the peers"),
        (
            "RIS",
            'kinds = ["study.complete", "instance.stored"]',
            "availability is about study.complete, instances.deleted, instances.restored only",
        ),
        ("RIS", 'webhook = "http://127.0.0.1/"', "needs one of"),
    ],
)
def test_what_cannot_be_configured(tmp_path: Path, peer: str, more: str, says: str) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text(configuration(1, peer=peer, more=more))
    with pytest.raises(SettingsError, match=says):
        load_settings(config)
