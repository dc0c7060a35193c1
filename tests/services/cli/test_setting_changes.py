"""``isocenter config set`` and ``reset``: checked, kept, and taken back."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.settings.loading import load_settings


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


def test_a_change_that_keeps_the_server_from_starting_is_taken_back(data: Path) -> None:
    assert config(data, "set", "log.level", "debug") == 0
    kept = data / "settings.json"
    kept.write_text(kept.read_text().replace("debug", "loud"))
    assert config(data, "show") == 2
    assert config(data, "reset", "log.level") == 0
    assert config(data, "show") == 0
