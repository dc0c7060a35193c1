"""Changed settings that all nodes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.settings.changed_settings import ChangedSetting, ChangedSettings, Changes
from isocenter.services.settings.settings import SETTINGS
from isocenter.services.settings.shared_changes import (
    _OF_A_NODE,
    _SETTINGS_OF_A_NODE,
    SharedChanges,
    is_shared,
)


def change(folder: Path, **values: object) -> None:
    def edit(found: Changes) -> Changes:
        new = {
            key.replace("__", "."): ChangedSetting(value=value, by="somebody", at="now")
            for key, value in values.items()
        }
        return {**found, **new}

    ChangedSettings(folder).change(edit)


def values(folder: Path) -> dict[str, object]:
    return {key: one.value for key, one in ChangedSettings(folder).read().items()}


def test_settings_of_one_machine_stay_there(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    change(one, query__max_results=7, server__port=1)
    change(other, query__max_results=8, server__port=2, log__level="debug")
    theirs, ours = SharedChanges(one), SharedChanges(other)
    assert ours.write(theirs.read(), instead_of=ours.read())
    assert values(other) == {"query.max_results": 7, "server.port": 2, "log.level": "debug"}
    assert ours.read() == theirs.read()


def test_what_changed_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    text = SharedChanges(tmp_path / "one")
    assert text.read() == ""
    change(tmp_path / "one", query__max_results=7)
    before = text.read()
    assert not text.write(before, instead_of="")
    change(tmp_path / "one", query__max_results=8)
    assert not text.write(before, instead_of=before)
    assert values(tmp_path / "one") == {"query.max_results": 8}


def test_nothing_of_one_machine_comes_from_the_database(tmp_path: Path) -> None:
    change(tmp_path / "one", query__max_results=7, plugins__folder="/tmp/p", server__port=1)
    theirs = (tmp_path / "one" / "settings.json").read_text()
    change(tmp_path / "other", server__port=2)
    assert SharedChanges(tmp_path / "other").write(
        theirs, instead_of=SharedChanges(tmp_path / "other").read()
    )
    assert values(tmp_path / "other") == {"query.max_results": 7, "server.port": 2}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1, "settings": {"a": 1}}'])
def test_what_the_database_has_may_be_none(tmp_path: Path, content: str) -> None:
    with pytest.raises(OSError, match="cannot be read"):
        SharedChanges(tmp_path).write(content, instead_of="")


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(OSError, match="correct it, or restore a backup"):
        SharedChanges(tmp_path).read()


def test_all_settings_of_a_node_are_settings() -> None:
    keys = {one.key for one in SETTINGS}
    sections = {key.partition(".")[0] for key in keys}
    assert keys >= _SETTINGS_OF_A_NODE
    assert sections >= _OF_A_NODE
    assert is_shared("access.allow")
    assert is_shared("peers")
    assert not is_shared("cluster.node")
