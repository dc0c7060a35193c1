"""``[[ups.follow_ups]]``: what is read, written again, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.service_classes.ups.follow_ups import FollowUp
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.settings.toml_text import show

GOOD = """
[[ups.follow_ups]]
name = "a"
after = "AI"
label = "Read the study"
worklist_label = "READING"
priority = "HIGH"

[[ups.follow_ups]]
name = "b"
after = "READING"
label = "Report"
worklist_label = "REPORTS"
"""


def load(path: Path, text: str) -> Settings:
    file = path / "isocenter.toml"
    file.write_text(text)
    return load_settings(file, environ={})


def test_follow_ups_are_read_and_written_again(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD)
    assert settings.ups.follow_ups == (
        FollowUp(
            name="a", after="AI", label="Read the study", worklist_label="READING", priority="HIGH"
        ),
        FollowUp(name="b", after="READING", label="Report", worklist_label="REPORTS"),
    )
    again = load(tmp_path, show(settings))
    assert again.ups.follow_ups == settings.ups.follow_ups


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (('name = "b"', 'name = "a"'), "have the name 'a'"),
        (('after = "AI"', ""), "after is a text of 1 to 64 characters"),
        (('label = "Report"', 'label = "Bericht für alle"'), "label is a text"),
        (('label = "Report"', 'label = "A\\\\B"'), "label is a text"),
        (('priority = "HIGH"', 'priority = "STAT"'), "priority is one of HIGH, MEDIUM, LOW"),
        (('after = "AI"', 'before = "AI"'), "there is no 'before'"),
    ],
)
def test_what_cannot_be_is_named(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        load(tmp_path, GOOD.replace(*change))
