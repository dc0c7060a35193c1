"""Settings that are given by names that they have no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.settings.changed_settings import (
    ChangedSetting,
    ChangedSettings,
    changes_of_text,
    text_of_changes,
)
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.former_names import FORMER_NAMES, current_name
from isocenter.services.settings.loading import BY_KEY, load, load_settings, settings_named
from isocenter.services.settings.source import SettingsSource

QUERY = "ISOCENTER__QUERY__TIME_ZONE"
SHARING = "ISOCENTER__SHARING__TIME_ZONE"
SERVER = "ISOCENTER__SERVER__TIME_ZONE"


def change(value: str, at: str) -> ChangedSetting:
    return ChangedSetting(value=value, by="alice", at=at)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "isocenter.toml"


def test_each_leads_to_a_setting_of_today() -> None:
    for former, now in FORMER_NAMES.items():
        assert former not in BY_KEY
        assert now in BY_KEY
        assert current_name(former) == now
        assert [one.key for one in settings_named(former)] == [now]


@pytest.mark.parametrize("section", ["query", "sharing"])
@pytest.mark.parametrize("suffix", ["toml", "yaml"])
def test_a_file_may_use_it_and_is_told_so(config: Path, section: str, suffix: str) -> None:
    config = config.with_suffix(f".{suffix}")
    text = {
        "toml": f'[{section}]\ntime_zone = "Europe/Berlin"\n',
        "yaml": f"{section}:\n  time_zone: Europe/Berlin\n",
    }
    config.write_text(text[suffix])
    loaded = load(config, {}, changes={})
    assert loaded.faults == ()
    assert loaded.settings.server.time_zone == "Europe/Berlin"
    (told,) = loaded.former
    assert told.startswith(f"{section}.time_zone is called server.time_zone now")
    assert str(config) in told
    assert "line 2" in loaded.sources["server.time_zone"]


def test_two_that_say_the_same_are_one(config: Path) -> None:
    config.write_text('[query]\ntime_zone = "UTC"\n[sharing]\ntime_zone = "UTC"\n')
    loaded = load(config, {}, changes={})
    assert loaded.settings.server.time_zone == "UTC"
    assert [text.partition(" ")[0] for text in loaded.former] == [
        "query.time_zone",
        "sharing.time_zone",
    ]


def test_two_that_differ_are_a_fault(config: Path) -> None:
    config.write_text('[query]\ntime_zone = "UTC"\n[sharing]\ntime_zone = "Asia/Tokyo"\n')
    told = r"query\.time_zone says another thing; .* as server\.time_zone"
    with pytest.raises(SettingsError, match=told):
        load_settings(config, {}, changes={})
    with pytest.raises(SettingsError, match=f"{QUERY}.* says another thing; keep {SERVER}"):
        load_settings(None, {QUERY: "UTC", SHARING: "Asia/Tokyo"}, changes={})
    with pytest.raises(SettingsError, match=f"{SERVER}.* says another thing"):
        load_settings(None, {SHARING: "Asia/Tokyo", SERVER: "UTC"}, changes={})


def test_a_wrong_value_is_told_by_the_name_of_today(config: Path) -> None:
    config.write_text('[sharing]\ntime_zone = "Mars"\n')
    with pytest.raises(SettingsError, match=r"server\.time_zone.*IANA"):
        load_settings(config, {}, changes={})


def test_a_variable_may_use_it_and_wins_over_the_file(config: Path) -> None:
    config.write_text('[server]\ntime_zone = "UTC"\n')
    loaded = load(config, {SHARING: "Asia/Tokyo", QUERY: "Asia/Tokyo"}, changes={})
    assert loaded.settings.server.time_zone == "Asia/Tokyo"
    assert loaded.fixed == {"server.time_zone": f"environment variable {SHARING}"}
    assert len(loaded.former) == 2
    assert load(None, {SERVER: "UTC"}, changes={}).former == ()
    assert load_settings(None, {}, {"query.time_zone": "UTC"}, {}).server.time_zone == "UTC"


def test_what_was_changed_under_it_is_kept_under_the_name_of_today(tmp_path: Path) -> None:
    old = text_of_changes(
        {
            "sharing.time_zone": change("Asia/Tokyo", "2026-11-02T00:00:00+00:00"),
            "query.time_zone": change("UTC", "2026-11-01T00:00:00+00:00"),
            "log.level": change("debug", "2026-11-03T00:00:00+00:00"),
        }
    )
    found = changes_of_text(old)
    assert {key: one.value for key, one in found.items()} == {
        "server.time_zone": "Asia/Tokyo",
        "log.level": "debug",
    }
    changed = ChangedSettings(tmp_path)
    changed.path.write_bytes(old)
    source = SettingsSource(environ={}, overrides={"storage.data_dir": str(tmp_path)})
    assert source.settings().server.time_zone == "Asia/Tokyo"
    changed.change(lambda before: source.changed(before, {"log.level": None}, by="bob", at="x"))
    assert b"sharing.time_zone" not in changed.path.read_bytes()
    assert source.settings().server.time_zone == "Asia/Tokyo"
    now = {"server.time_zone": change("UTC", "2026-01-01T00:00:00+00:00")}
    later = {"query.time_zone": change("Asia/Tokyo", "2026-11-01T00:00:00+00:00")}
    assert changes_of_text(text_of_changes({**later, **now}))["server.time_zone"].value == "UTC"
