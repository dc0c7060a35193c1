"""Events of a real server: stored by DCMTK, delivered to a webhook, across `kill -9`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from services.service_classes.mpps.samples import worklist_entry
from services.workflow.events.hooks import SECRET, Hook, webhook
from support.processes import (
    ISOCENTER,
    ServedArchive,
    isocenter_command,
    program,
    run,
    served_archive,
    wait_for_line,
)
from support.studies import ROOT, write_studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.interop("storescu", "echoscu"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]

STUDIES = [f"{ROOT}.1", f"{ROOT}.2"]
ORDER = ["study.opened", "series.opened"]


def configuration(folder: Path, hook: Hook, *more: str) -> Path:
    path = folder / "isocenter.toml"
    path.write_text(
        "\n".join(
            [
                "[events]",
                "quiet_seconds = 4",
                "settle_seconds = 0.5",
                "[[events.consumers]]",
                'name = "ris"',
                f'webhook = "{hook.url}/isocenter"',
                f'secret = "{SECRET}"',
                *more,
            ]
        )
    )
    return path


def store(archive: ServedArchive, folder: Path) -> None:
    done = run("storescu", "+sd", "-aec", "ISOCENTER", "127.0.0.1", archive.port, folder)
    assert done.returncode == 0, done.stdout


def of_studies(events: list[dict[str, Any]]) -> dict[str, list[int]]:
    """The numbers of each study's events, in the order in which they came first."""
    found: defaultdict[str, dict[int, None]] = defaultdict(dict)
    for event in events:
        if event["kind"] != "association.refused":
            found[event["study_instance_uid"]][event["id"]] = None
    return {study: list(numbers) for study, numbers in found.items()}


def are_complete(events: list[dict[str, Any]], studies: int = 2) -> bool:
    # Delivered at least once: after a kill the same event may come again.
    complete = {event["id"] for event in events if event["kind"] == "study.complete"}
    return len(complete) >= studies


def test_a_webhook_hears_of_what_is_stored(tmp_path: Path) -> None:
    write_studies(tmp_path / "images", instances=3)
    with webhook() as hook:
        config = configuration(tmp_path, hook)
        with served_archive(tmp_path, "--config", config) as archive:
            store(archive, tmp_path / "images")
            events = hook.wait(are_complete)
            run("echoscu", "-aec", "NOBODY", "127.0.0.1", archive.port)
            hook.wait(lambda events: events[-1]["kind"] == "association.refused")
            listed = isocenter_command(
                "events", "studies", "--data-dir", archive.data_dir, "--json"
            )
        assert all(delivery.is_signed() for delivery in hook.all)
        assert {delivery.path for delivery in hook.all} == {"/isocenter"}
        for study in STUDIES:
            own = [event for event in events if event["study_instance_uid"] == study]
            assert [event["kind"] for event in own][:2] == ORDER
            assert [e["kind"] for e in own].count("instance.stored") == 6
            assert [event["id"] for event in own] == sorted({event["id"] for event in own})
            last = own[-1]
            assert (last["kind"], last["instances"], last["reason"]) == (
                "study.complete", 6, "quiet",
            )  # fmt: skip
        # Names and numbers of patients leave only where somebody asked for it.
        assert not any(b"ller" in delivery.body for delivery in hook.all)
        rows = [orjson.loads(line) for line in listed.stdout.splitlines()]
        assert [(row["state"], row["received"]) for row in rows] == [("complete", 6)] * 2


def test_what_was_stored_before_a_kill_is_delivered_after_it(tmp_path: Path) -> None:
    write_studies(tmp_path / "images")
    with webhook() as hook:
        config = configuration(tmp_path, hook, "longest_retry = 0.1")
        hook.status = lambda event: 503
        with served_archive(tmp_path, "--config", config) as archive:
            store(archive, tmp_path / "images")
            hook.wait_for_attempts(2)
            archive.process.send_signal(signal.SIGKILL)
            archive.process.wait()
        assert hook.accepted == []
        tried = len(hook.all)
        hook.status = lambda event: 204
        with served_archive(tmp_path, "--config", config) as archive:
            events = hook.wait(are_complete)
            tail = isocenter_command(
                "events", "tail", "--data-dir", archive.data_dir, "--json", "-n", 1_000
            )
    kept = [orjson.loads(line) for line in tail.stdout.splitlines()]
    assert of_studies(events) == of_studies(kept)
    assert [event["kind"] for event in events].count("instance.stored") == 8
    assert len(hook.all) > tried


def test_a_kill_in_the_middle_of_deliveries_loses_nothing(tmp_path: Path) -> None:
    write_studies(tmp_path / "images", instances=10)
    with webhook() as hook:
        config = configuration(tmp_path, hook)
        with served_archive(tmp_path, "--config", config) as archive:
            store(archive, tmp_path / "images")
            hook.wait(lambda events: len(events) >= 15)
            archive.process.send_signal(signal.SIGKILL)
            archive.process.wait()
        with served_archive(tmp_path, "--config", config) as archive:
            events = hook.wait(are_complete)
            tail = isocenter_command(
                "events", "tail", "--data-dir", archive.data_dir, "--json", "-n", 1_000
            )
    kept = [orjson.loads(line) for line in tail.stdout.splitlines()]
    assert of_studies(events) == of_studies(kept)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/locks")
def test_two_workers_and_the_one_on_duty_is_killed(tmp_path: Path) -> None:
    write_studies(tmp_path / "images")
    write_studies(tmp_path / "more", studies=3)
    with webhook() as hook:
        config = configuration(tmp_path, hook)
        hook.status = lambda event: 500 if event["study_instance_uid"] == STUDIES[0] else 204
        with served_archive(tmp_path, "--config", config, "--workers", 2) as archive:
            store(archive, tmp_path / "images")
            # One study fails, the other does not wait for it.
            hook.wait(are_complete_one)
            assert of_studies(hook.accepted).keys() == {STUDIES[1]}
            os.kill(holder_of(archive.data_dir / "events.lock"), signal.SIGKILL)
            hook.status = lambda event: 204
            store(archive, tmp_path / "more")
            events = hook.wait(lambda events: are_complete(events, 3))
            tail = isocenter_command(
                "events", "tail", "--data-dir", archive.data_dir, "--json", "-n", 1_000
            )
    kept = [orjson.loads(line) for line in tail.stdout.splitlines()]
    assert of_studies(events) == of_studies(kept)
    assert len(kept) == len({event["id"] for event in kept})


def are_complete_one(events: list[dict[str, Any]]) -> bool:
    return are_complete(events, 1)


def holder_of(path: Path) -> int:
    inode = path.stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    raise AssertionError(f"nobody holds {path}")


def test_a_command_and_the_command_line(tmp_path: Path) -> None:
    write_studies(tmp_path / "images", studies=1, series=1, instances=1)
    out = tmp_path / "events.jsonl"
    config = tmp_path / "isocenter.toml"
    code = f"import sys; open({str(out)!r}, 'a').write(sys.stdin.read() + chr(10))"
    config.write_text(
        "[events]\nquiet_seconds = 0.2\n[[events.consumers]]\nname = 'script'\n"
        f"command = [{orjson.dumps(sys.executable).decode()}, '-c', {orjson.dumps(code).decode()}]"
        "\nkinds = ['study.complete']\n"
    )
    log = tmp_path / "tail.log"
    with served_archive(tmp_path, "--config", config) as archive:
        follow = [*ISOCENTER, "events", "tail", "--follow", "--data-dir", archive.data_dir]
        with program(*follow, "--kind", "study.complete", log=log) as tail:
            store(archive, tmp_path / "images")
            wait_for_line(tail, r"study\.complete +study_instance_uid=.* reason=quiet", log)
            tail.send_signal(signal.SIGINT)
            assert tail.wait(120) == 130
        where = ["--config", config, "--data-dir", archive.data_dir]
        wait_for_lines(out, 1)
        done = isocenter_command("events", "replay", *where, "--consumer", "script", "--from", 1)
        assert (done.returncode, "1 study" in done.stdout) == (0, True), done.stdout
        first, again = wait_for_lines(out, 2)
        assert first == again
        assert orjson.loads(first)["kind"] == "study.complete"
        for consumer, words in (("nobody", "there are: script"), ("script", "no event that is")):
            done = isocenter_command(
                "events", "replay", *where, "--consumer", consumer, "--from", 1_000
            )
            assert (done.returncode, words in done.stdout) == (1, True), done.stdout
        done = isocenter_command("events", "consumers", *where, "--json")
        row = orjson.loads(done.stdout)
        assert (row["consumer"], row["delivered"], row["held"], row["dead"]) == (
            "script", 2, 0, 0,
        )  # fmt: skip


def wait_for_lines(path: Path, count: int) -> list[str]:
    """Until the file has so many lines."""
    look = f"[ $(wc -l < '{path}') -ge {count} ] && exit"
    watch = subprocess.run(
        ["sh", "-c", f"for i in $(seq 600); do {look}; sleep 0.05; done; exit 1"], check=False
    )
    assert watch.returncode == 0, path.read_text()
    return path.read_text().splitlines()


def test_the_words_of_a_modality_end_its_study(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_studies(images, studies=1, series=1)
    entry = tmp_path / "entry.json"
    entry.write_bytes(orjson.dumps([worklist_entry().to_json_dict()]))
    with webhook() as hook:
        config = configuration(tmp_path, hook)
        config.write_text(config.read_text().replace("quiet_seconds = 4\n", ""))
        with served_archive(tmp_path, "--config", config) as archive:
            peer = f"ISOCENTER@127.0.0.1:{archive.port}"
            begun = isocenter_command("mppsscu", peer, "create", "--worklist", entry, "-aet", "CT1")
            assert begun.returncode == 0, begun.stdout
            step = begun.stdout.strip()
            store(archive, images)
            ended = isocenter_command("mppsscu", peer, "complete", step, images)
            assert ended.returncode == 0, ended.stdout
            (complete,) = [e for e in hook.wait(are_complete_one) if e["kind"] == "study.complete"]
            assert complete["reason"] == "mpps"
            asked = isocenter_command("commitscu", peer, images)
            assert asked.returncode == 0, asked.stdout
            events = hook.wait(lambda events: events[-1]["kind"] == "commitment.done")
    said = [(e["kind"], e.get("state")) for e in events if e["kind"] == "mpps.changed"]
    assert said == [("mpps.changed", "IN PROGRESS"), ("mpps.changed", "COMPLETED")]
    assert [event["kind"] for event in events][-3:] == [
        "study.complete", "commitment.asked", "commitment.done",
    ]  # fmt: skip
    assert (events[-1]["committed"], events[-1]["failed"]) == (2, 0)


def test_a_consumer_that_cannot_be_used_keeps_the_server_from_starting(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[[events.consumers]]\nname = 'x'\npython = 'no.such:function'\n")
    done = isocenter_command(
        "serve", "--config", config, "--data-dir", tmp_path / "data", "--check-config", "--no-tls"
    )
    assert done.returncode == 2
    assert "cannot import no.such:function" in done.stdout
