"""Settings that were changed while a server ran: where they stand, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isocenter.services.settings.changed_settings import ChangedSetting, ChangedSettings
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load, load_settings
from isocenter.services.settings.source import SettingsSource

AT = "2026-11-30T10:00:00+00:00"


class Kept:
    """A configuration file, a data directory, and what was changed there."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "isocenter.toml"
        self.data = folder / "data"
        self.write("")
        self.changed = ChangedSettings(self.data)
        self.environ: dict[str, str] = {}
        self.source = SettingsSource(config_file=self.file, environ=self.environ)

    def write(self, text: str) -> None:
        self.file.write_text(f"[storage]\ndata_dir = {str(self.data)!r}\n{text}")

    def change(self, **values: Any) -> None:
        named = {key.replace("__", "."): value for key, value in values.items()}
        self.changed.change(lambda old: self.source.changed(old, named, by="alice", at=AT))

    def faults(self, **values: Any) -> list[str]:
        before = self.changed.read()
        with pytest.raises(SettingsError) as caught:
            self.change(**values)
        assert self.changed.read() == before
        return [str(fault) for fault in caught.value.faults]


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_a_change_wins_over_the_file_and_lasts(kept: Kept) -> None:
    kept.write('[log]\nlevel = "warning"\n')
    kept.change(log__level="debug", worklist__max_results=7)
    settings = kept.source.settings()
    assert (settings.log.level.value, settings.worklist.max_results) == ("debug", 7)
    # Whoever reads the settings of this archive, as another command does.
    assert load_settings(kept.file, {}).log.level.value == "debug"
    loaded = kept.source.load()
    assert loaded.sources["log.level"] == f"changed by alice on {AT}"
    assert kept.changed.path.stat().st_mode & 0o077 == 0


def test_a_change_is_taken_back(kept: Kept) -> None:
    kept.write('[log]\nlevel = "warning"\n')
    kept.change(log__level="debug")
    kept.change(log__level=None)
    assert kept.source.settings().log.level.value == "warning"
    assert not kept.changed.read()


def test_variables_and_options_win_and_are_changed_where_they_stand(kept: Kept) -> None:
    kept.change(log__level="debug", server__port=11200)
    kept.environ["ISOCENTER__LOG__LEVEL"] = "error"
    source = SettingsSource(
        config_file=kept.file, environ=kept.environ, overrides={"server.port": 11300}
    )
    settings = source.settings()
    assert (settings.log.level.value, settings.server.port) == ("error", 11300)
    assert source.load().fixed.keys() == {"log.level", "server.port"}
    (fault,) = kept.faults(log__level="info")
    assert "is set by environment variable ISOCENTER__LOG__LEVEL; change it there" in fault


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"log__levl": "debug"}, "no such setting; did you mean log.level?"),
        ({"log__level": "loud"}, "log.level = 'loud' (request): must be "),
        ({"log__level": 7}, "must be "),
        ({"server__port": True}, "server.port = True (request): must be "),
        ({"server__port": 1.5}, "must be "),
        ({"storage__data_dir": "/elsewhere"}, "change it in the configuration file"),
        ({"tls__key_password": "x"}, "is a secret; set ISOCENTER__TLS__KEY_PASSWORD_FILE"),
        ({"peers": [{"ae_title": "A", "host": "h", "port": "x"}]}, "peers, no. 1"),
        ({"events__consumers": [{"name": "a", "secret": "(hidden)"}]}, "secret_file"),
        ({"tls__ca": "ca.pem"}, "needs tls.certificate and tls.key"),
        ({"plain__enabled": False, "tls__enabled": False}, "enable one of them"),
    ],
)
def test_what_cannot_be_is_told_before_it_is_kept(
    kept: Kept, values: dict[str, Any], said: str
) -> None:
    assert said in "\n".join(kept.faults(**values))


def test_all_faults_are_told_at_once(kept: Kept) -> None:
    assert len(kept.faults(log__level="loud", server__port=-1, worklist__max_results="x")) == 3


def test_paths_are_those_of_the_data_directory(kept: Kept) -> None:
    kept.change(log__file="logs/archive.log")
    assert kept.source.settings().log.file == kept.data / "logs/archive.log"


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2, "settings": {}}', b'{"format": 1, "settings": {"a": 1}}'],
)
def test_a_file_that_is_none_of_ours_is_told(kept: Kept, content: bytes) -> None:
    kept.data.mkdir()
    kept.changed.path.write_bytes(content)
    (fault,) = load(kept.file, {}).faults
    assert "settings.json: cannot be read; correct it" in str(fault)


def test_what_somebody_wrote_there_is_checked_like_the_rest(kept: Kept) -> None:
    def edit(old: object) -> dict[str, ChangedSetting]:
        values = {"log.level": "loud", "x.y": 1, "storage.data_dir": "/elsewhere"}
        return {key: ChangedSetting(value=value, by="bob", at=AT) for key, value in values.items()}

    kept.changed.change(edit)
    faults = {fault.key: str(fault) for fault in load(kept.file, {}).faults}
    assert faults.keys() == {"log.level", "x.y", "storage.data_dir"}
    assert all("changed by bob" in fault for fault in faults.values())
