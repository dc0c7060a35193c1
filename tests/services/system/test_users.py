"""Who the operating system says is at work."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from isocenter.services.system import users
from isocenter.services.system.users import acting_user, user_name

ROOT = pwd.getpwuid(0).pw_name


@pytest.fixture(autouse=True)
def _pretending(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody")


def test_what_the_environment_says_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "_LOGIN_UID", tmp_path / "none")
    assert acting_user() == user_name(os.geteuid())


@pytest.mark.parametrize(
    ("login", "name"),
    [("0", ROOT), ("4294967295", None), ("", None), ("4294967294", "user 4294967294")],
)
def test_who_logged_in_comes_before_whom_they_became(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login: str, name: str | None
) -> None:
    (tmp_path / "loginuid").write_text(login)
    monkeypatch.setattr(users, "_LOGIN_UID", tmp_path / "loginuid")
    assert acting_user() == (name or user_name(os.geteuid()))
