"""`isocenter token` on the command line: made, shown once, listed, revoked, audited."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from isocenter.services import composition
from isocenter.services.cli import main
from isocenter.services.composition.api_tokens import add_token, list_tokens, revoke_token
from isocenter.services.security.access.api_tokens import ApiTokenVerifier
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.settings.loading import load_settings
from services.security.audit.trails import audited_object, detail, messages, of_event

Output = pytest.CaptureFixture[str]


@pytest.fixture
def archive(tmp_path: Path, capsys: Output) -> str:
    """A data directory with an empty archive."""
    data_dir = tmp_path / "data"
    (data_dir / "objects").mkdir(parents=True)
    return str(data_dir)


def run(archive: str, *words: str) -> int:
    try:
        return main(["token", words[0], "--data-dir", archive, *words[1:]])
    except SystemExit as error:
        return int(error.code or 0)


def test_made_listed_and_revoked(archive: str, capsys: Output) -> None:
    assert run(archive, "add", "viewer", "--role", "Viewer", "--scope", "dicomweb.read") == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"iso_[0-9a-f]{8}_[0-9a-f]{64}\n", said.out)
    assert "nobody can show it again" in said.err
    assert run(archive, "list") == 0
    listed = capsys.readouterr().out
    assert "viewer" in listed
    assert "valid" in listed
    assert said.out.strip() not in listed
    token_id = said.out.split("_")[1]
    assert run(archive, "revoke", token_id) == 0
    assert capsys.readouterr().out == f"viewer ({token_id}) is revoked\n"
    assert run(archive, "revoke", "viewer") == 1
    assert "is revoked already" in capsys.readouterr().err
    assert run(archive, "list", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["state"], row["roles"]) == (token_id, "revoked", ["Viewer"])
    changed = of_event(messages(Path(archive) / "audit"), "110113")
    texts = [detail(audited_object(one, "12"), "Alert Description") for one in changed]
    assert texts == [
        b"the API token viewer was made: roles Viewer, for dicomweb.read",
        b"the API token viewer was revoked: roles Viewer, for dicomweb.read",
    ]
    for file in Path(archive).rglob("*"):
        if file.is_file():
            assert said.out.split("_")[2].strip().encode() not in file.read_bytes(), file


def test_for_programs(archive: str, capsys: Output) -> None:
    assert (
        run(archive, "add", "loader", "--role", "Modality", "--days", "1", "--format", "json") == 0
    )
    made = json.loads(capsys.readouterr().out)
    assert made["token"].startswith(f"iso_{made['id']}_")
    assert (made["scopes"], made["user"], made["last_used"]) == ([], None, None)


@pytest.mark.parametrize(
    ("words", "code", "fault"),
    [
        (("add", "x"), 1, "name either"),
        (("add", "x", "--role", "Emperor"), 1, "there is no role 'Emperor'"),
        (("add", "x", "--user", "nobody"), 1, "there is no user 'nobody'"),
        (("add", "x", "--role", "Viewer", "--scope", "fly"), 2, "invalid choice"),
        (("add", "x", "--role", "Viewer", "--days", "0"), 2, "number of days"),
        (("add", "x", "--role", "Viewer", "--days", "9" * 30), 2, "number of days"),
        (("add", "x", "--role", "Viewer", "--days", "3", "--no-expiry"), 2, "not allowed with"),
        (("revoke", "nobody"), 1, "the name or ID of no token"),
    ],
)
def test_what_cannot_be(
    words: tuple[str, ...], code: int, fault: str, archive: str, capsys: Output
) -> None:
    assert run(archive, *words) == code
    assert fault in capsys.readouterr().err


def test_no_archive_is_made(tmp_path: Path, capsys: Output) -> None:
    assert run(str(tmp_path / "nothing"), "list") == 2
    assert "no archive is there" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


async def test_as_operations_of_the_library(archive: str) -> None:
    settings = load_settings(overrides={"storage.data_dir": archive}, environ={})
    text, token = await add_token(settings, "library", roles=("Viewer",), days=None)
    with pytest.raises(PolicyError, match="there is a token 'library' already"):
        await add_token(settings, "library", roles=("Viewer",))
    assert [one.name for one in await list_tokens(settings)] == ["library"]
    async with composition.open_stores(settings) as stores:
        verifier = ApiTokenVerifier(stores.tokens)
        await verifier.verify(text)
        assert (await revoke_token(settings, "library")).token_id == token.token_id
        with pytest.raises(PolicyError, match="is revoked"):
            await verifier.verify(text)


async def test_without_its_audit_message_there_is_no_token(archive: str) -> None:
    settings = load_settings(
        overrides={"storage.data_dir": archive, "audit.on_failure": "stop"}, environ={}
    )
    (Path(archive) / "audit").write_text("in the way")
    with pytest.raises(OSError):
        await add_token(settings, "unseen", roles=("Viewer",))
    assert not await list_tokens(settings)
