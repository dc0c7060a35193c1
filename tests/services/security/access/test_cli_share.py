"""`isocenter share` on the command line: made, shown once, listed, revoked, audited."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import trio

from isocenter.services.cli import main
from isocenter.services.composition.archive import open_archive
from isocenter.services.settings.loading import load_settings
from services.archive_support import STUDY, store
from services.security.audit.trails import audited_object, detail, messages, of_event

Output = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path) -> str:
    """A data directory with one study."""
    data_dir = str(tmp_path / "data")

    async def fill() -> None:
        async with open_archive(load_settings(None, {}, {"storage.data_dir": data_dir})) as opened:
            await store(opened, 1)

    trio.run(fill)
    return data_dir


def run(archive: str, *words: str) -> int:
    try:
        return main(["share", words[0], "--data-dir", archive, *words[1:]])
    except SystemExit as error:
        return int(error.code or 0)


def test_made_listed_and_revoked(archive: str, tmp_path: Path, capsys: Output) -> None:
    passcode = tmp_path / "passcode.txt"
    passcode.write_text("a long passcode\n")
    options = ("--for", "Dr. X", "--days", "3", "--download", "--passcode-file", str(passcode))
    assert run(archive, "add", STUDY, *options) == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"/share/isl_[0-9a-f]{8}_[0-9a-f]{64}\n", said.out)
    assert "nobody can show it again" in said.err
    assert run(archive, "list") == 0
    listed = capsys.readouterr().out
    assert "Dr. X" in listed
    assert "look and download, with a passcode" in listed
    link_id = said.out.split("_")[1]
    assert run(archive, "revoke", link_id) == 0
    assert capsys.readouterr().out == f"{link_id} is revoked\n"
    assert run(archive, "revoke", link_id) == 1
    assert "is revoked already" in capsys.readouterr().err
    assert run(archive, "list", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["state"], row["study"]) == (link_id, "revoked", STUDY)
    changed = of_event(messages(Path(archive) / "audit"), "110113")
    texts = [detail(audited_object(one, "12"), "Alert Description").decode() for one in changed]
    assert [text.partition(": ")[0] for text in texts] == [
        f"the link {link_id} to a study was made",
        f"the link {link_id} to a study was revoked",
    ]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("add", "1.2.99"), 1, "the archive has no study 1.2.99"),
        (("add", STUDY, "--days", "0"), 2, "no number of days"),
        (("add", STUDY, "--passcode-file", "/nowhere/x"), 2, "/nowhere/x"),
        (("revoke", "00000000"), 1, "is the ID of no link"),
    ],
)
def test_what_cannot_be_is_told(
    archive: str, words: tuple[str, ...], code: int, said: str, capsys: Output
) -> None:
    assert run(archive, *words) == code
    assert said in capsys.readouterr().err
