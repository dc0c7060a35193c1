"""``isocenter events`` where there is no server, and what it makes of wrong arguments."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import trio

from isocenter.services.cli import main
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from services.workflow.events.test_delivery import KINDS, Site
from storage.database.events.test_events import RULES, STUDY, record

Output = pytest.CaptureFixture[str]

CONFIG = """
[[events.consumers]]
name = "ris"
webhook = "http://127.0.0.1:1/"
[[events.consumers]]
name = "new"
command = ["true"]
"""


async def fill(data_dir: Path) -> None:
    """Two studies; what was to go to ris failed, of one for good."""
    async with open_sqlite_database(data_dir / "index.db") as database:
        site = Site(database, lambda: 1_000_000.0)
        await site.outbox.begin(["ris"])
        writer = EventHooks(RULES, include_patient=True)
        index = DatabaseIndex(database, on_add=[writer.stored])
        await index.add([record(1), record(1, study="1.2.3")])
        await site.outbox.route("ris", KINDS, 0)
        for lane, retry_in in zip(
            await site.outbox.lanes("ris", 9, failing=False, not_for=()), (5.0, None), strict=True
        ):
            (event, *_) = await site.outbox.waiting("ris", KINDS, lane, 9)
            await site.outbox.failed("ris", lane, event, "HTTP 500", retry_in, 0)


@pytest.fixture
async def where(tmp_path: Path) -> list[str]:
    (tmp_path / "data").mkdir()
    await fill(tmp_path / "data")
    config = tmp_path / "isocenter.toml"
    config.write_text(CONFIG)
    return ["--data-dir", str(tmp_path / "data"), "--config", str(config)]


async def run(*words: str) -> int:
    """In a thread: the command has an event loop of its own."""
    return await trio.to_thread.run_sync(main, ["events", *words])


async def test_tail(where: list[str], capsys: Output) -> None:
    assert await run("tail", *where, "--kind", "instance.stored", "--study", STUDY) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "instance.stored" in line
    assert record(1).sop_instance_uid in line
    # Onlookers see no patient; a program that asks for all gets all.
    assert "Müller" not in line
    assert await run("tail", *where, "--json", "-n", "2") == 0
    last = [orjson.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [event["id"] for event in last] == [5, 6]
    assert last[0]["patient"]["patient_name"] == "Müller^Jörg"


async def test_consumers(where: list[str], capsys: Output) -> None:
    assert await run("consumers", *where, "--json") == 0
    (row,) = map(orjson.loads, capsys.readouterr().out.splitlines())
    assert (row["consumer"], row["waiting"], row["held"], row["dead"]) == ("ris", 5, 1, 1)
    assert [(each["state"], each["fault"]) for each in row["held_studies"]] == [
        ("held", "HTTP 500"), ("dead", "HTTP 500"),
    ]  # fmt: skip
    assert await run("consumers", *where) == 0
    out, err = capsys.readouterr()
    assert "given up" in out
    assert STUDY in out
    assert "new is new: no server has run with it yet" in err


async def test_replay(where: list[str], capsys: Output) -> None:
    assert await run("replay", *where, "--consumer", "ris", "--from", "1") == 0
    assert "events of 2 studies are delivered to ris once more" in capsys.readouterr().err
    assert await run("consumers", *where, "--json") == 0
    row = orjson.loads(capsys.readouterr().out)
    assert (row["waiting"], row["held"], row["dead"]) == (6, 0, 0)
    assert await run("replay", *where, "--consumer", "new", "--since", "2020-01-01") == 1
    assert "no server has run with it" in capsys.readouterr().err
    assert await run("replay", *where, "--consumer", "ris", "--since", "2999-01-01") == 1
    assert "no event that is kept" in capsys.readouterr().err


async def test_studies(where: list[str], capsys: Output) -> None:
    assert await run("studies", *where, "--json", "--state", "receiving") == 0
    rows = list(map(orjson.loads, capsys.readouterr().out.splitlines()))
    assert {row["study_instance_uid"] for row in rows} == {STUDY, "1.2.3"}
    assert {row["state"] for row in rows} == {"receiving"}
    assert await run("studies", *where, "--state", "complete") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tail", "--kind", "study.completed"], "invalid choice"),
        (["tail", "--study", "1*2"], "is no UID"),
        (["replay", "--consumer", "ris"], "--from --since is required"),
        (["replay", "--consumer", "ris", "--from", "0"], "not a whole number from 1"),
        (["replay", "--consumer", "ris", "--since", "soon"], "is no time; write today"),
        (["studies", "--state", "open"], "invalid choice"),
        ([], "required: ACTION"),
    ],
)
def test_wrong_arguments(words: list[str], said: str, capsys: Output) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["events", *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_no_archive(tmp_path: Path, capsys: Output) -> None:
    assert main(["events", "tail", "--data-dir", str(tmp_path)]) == 2
    assert "no archive is there" in capsys.readouterr().err
