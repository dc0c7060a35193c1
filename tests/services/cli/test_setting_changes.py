"""``isocenter config set`` and ``reset``: checked, kept, taken back; changes in the audit trail."""

from __future__ import annotations

import re
from base64 import b64decode
from contextlib import closing
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.security.audit.trail_reader import Cursor, TrailReader
from isocenter.services.settings.loading import load_settings
from isocenter.services.system.users import acting_user


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def config(data: Path, *words: str) -> int:
    return main(["config", *words, "--data-dir", str(data)])


def level(data: Path) -> str:
    return load_settings(None, {}, {"storage.data_dir": str(data)}).log.level.value


def test_a_setting_is_changed_and_put_back(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config(data, "set", "log.level", "debug") == 0
    assert level(data) == "debug"
    assert "the next start uses it" in capsys.readouterr().out
    assert config(data, "set", "access.allow", "CT1,MR1") == 0
    assert load_settings(None, {}, {"storage.data_dir": str(data)}).access.allow == ("CT1", "MR1")
    assert config(data, "explain", "log.level") == 0
    assert "changed by " in capsys.readouterr().out
    assert config(data, "reset", "log.level", "access.allow") == 0
    assert level(data) == "info"


def test_a_former_name_is_told_to_be_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert config(data, "set", "query.time_zone", "UTC") == 0
    assert "query.time_zone is called server.time_zone now" in capsys.readouterr().err
    assert load_settings(None, {}, {"storage.data_dir": str(data)}).server.time_zone == "UTC"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("set", "log.levl", "debug"), "did you mean log.level?"),
        (("set", "log.level", "loud"), "log.level = 'loud' (argument): must be debug or info"),
        (("set", "tls.ca", "ca.pem"), "needs tls.certificate"),
        (("set", "storage.data_dir", "/elsewhere"), "change it there"),
        (("set", "tls.key_password", "x"), "is a secret"),
        (("reset", "log.level"), "was not changed; changed are: none"),
    ],
)
def test_what_cannot_be_is_told(
    data: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config(data, *words) == 2
    assert said in capsys.readouterr().err
    assert not (data / "settings.json").exists() or level(data) == "info"


def records(data: Path) -> list[tuple[str, str]]:
    """The messages of the trail, and what each says of what was done."""
    with closing(TrailReader(data / "audit")) as trail:
        found, _ = trail.read_on(Cursor())
    messages = [one.entry.message for one in found]
    said = [re.findall(r'"Alert Description" value="([^"]*)"', one) for one in messages]
    return [(one, b64decode(text).decode()) for one, (text,) in zip(messages, said, strict=True)]


def test_who_changes_what_is_in_the_audit_trail_and_no_value_is(data: Path) -> None:
    assert config(data, "set", "log.level", "debug") == 0
    assert config(data, "set", "access.allow", "CT1") == 0
    assert config(data, "set", "log.level", "loud") == 2
    assert config(data, "reset", "log.level", "access.allow") == 0
    told = records(data)
    assert [said for _, said in told] == [
        "settings changed: log.level (config set)",
        "settings changed: access.allow (config set)",
        "settings changed: log.level, access.allow (config reset)",
    ]
    assert all(f'UserID="{acting_user()}@' in message for message, _ in told)


def test_nothing_is_changed_that_cannot_be_recorded(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "no folder"
    place.write_text("a file")
    monkeypatch.setenv("ISOCENTER__AUDIT__FOLDER", str(place))
    assert config(data, "set", "log.level", "debug") == 0
    assert "it is changed all the same" in capsys.readouterr().err
    monkeypatch.setenv("ISOCENTER__AUDIT__ON_FAILURE", "stop")
    assert config(data, "set", "log.level", "info") != 0
    assert "nothing was changed" in capsys.readouterr().err
    assert level(data) == "debug"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("user", "add", "ada", "--role", "Viewer", "--no-passcode"),
         "user ada added, with roles Viewer"),
        (("user", "role", "ada", "Radiologist"), "user ada has roles Radiologist"),
        (("user", "deactivate", "ada"), "user ada is not active any more"),
        (("user", "totp", "ada"), "user ada is asked for one-time codes of a new secret"),
        (("user", "remove", "ada"), "user ada removed"),
        (("ae", "add", "CT1"), "application entity CT1 admitted"),
        (("ae", "deny", "CT1"), "application entity CT1 turned away"),
        (("ae", "remove", "CT1"), "application entity CT1 removed"),
        (("ae", "role", "reader", "study:read"), "role reader gives study:read"),
        (("certs", "issue", "CT1"), "certificate CT1 issued for AE title CT1"),
        (("certs", "issue", "MR1", "--ae-title", "M"), "certificate MR1 issued for AE title M"),
        (("certs", "revoke", "OLD"), "certificate OLD revoked"),
        (("certs", "renew", "OLD"), "certificates renewed: OLD"),
    ],
)  # fmt: skip
def test_who_changes_the_policy_is_in_the_audit_trail(
    data: Path, words: tuple[str, ...], said: str
) -> None:
    where = ("--data-dir", str(data))
    before: list[tuple[str, ...]] = [("user", "add", "ada", "--no-passcode"), ("ae", "add", "CT1")]
    if words[0] == "certs":
        before = [("certs", "init"), ("certs", "issue", "OLD")]
    for each in before:
        if each[:3] != words[:3]:
            assert main([*each, *where]) == 0
    assert main([*words, *where]) == 0
    message, done = records(data)[-1]
    assert done == said
    assert f'UserID="{acting_user()}@' in message


def test_a_change_that_keeps_the_server_from_starting_is_taken_back(data: Path) -> None:
    assert config(data, "set", "log.level", "debug") == 0
    kept = data / "settings.json"
    kept.write_text(kept.read_text().replace("debug", "loud"))
    assert config(data, "show") == 2
    assert config(data, "reset", "log.level") == 0
    assert config(data, "show") == 0
