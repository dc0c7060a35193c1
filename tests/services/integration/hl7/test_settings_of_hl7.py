"""The section [hl7]: what it takes, and what is warned of."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.composition.hl7 import order_address
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.warnings import warnings


def settings_of(folder: Path, text: str) -> object:
    path = folder / "isocenter.toml"
    path.write_text(f"[hl7]\n{text}\n")
    return load_settings(path, {})


def test_it_is_off_and_on_loopback(tmp_path: Path) -> None:
    settings = load_settings(None, {})
    assert not settings.hl7.enabled
    assert (settings.hl7.host, settings.hl7.port) == ("127.0.0.1", 2575)
    assert order_address(settings, None) is None


def test_senders_make_the_warning_milder(tmp_path: Path) -> None:
    path = tmp_path / "isocenter.toml"
    path.write_text('[hl7]\nenabled = true\nhost = "10.0.0.5"\nsenders = ["10.0.0.0/24"]\n')
    settings = load_settings(path, {})
    (line,) = (line for line in warnings(settings) if "HL7 on 10.0.0.5:2575" in line)
    assert "whoever has an address of hl7.senders can order" in line


def test_in_the_clear_beyond_loopback_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "isocenter.toml"
    for text, count in (
        ('enabled = true\nhost = "10.0.0.5"', 1),
        ('enabled = true\nhost = "10.0.0.5"\ntls = true', 0),
        ("enabled = true", 0),
        ('host = "10.0.0.5"', 0),
    ):
        path.write_text(f"[hl7]\n{text}\n")
        settings = load_settings(path, {})
        assert sum("HL7 on 10.0.0.5:2575" in line for line in warnings(settings)) == count


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('stations = ["CT_01"]', "NAME=AET"),
        ('stations = ["=CT_01"]', "NAME=AET"),
        ('stations = ["CT=more than sixteen characters"]', "NAME=AET"),
        ('modalities = ["RUS=us"]', "NAME=MODALITY"),
        ('character_set = "EBCDIC"', "HL7 Table 0211"),
        ('processing_ids = ["X"]', "P or T or D"),
        ('senders = ["10.0.0.1/8"]', "an address or a network"),
        ('senders = ["ris.example"]', "an address or a network"),
        ("enabled = true\n[worklist]\nenabled = false", "needs worklist.enabled"),
        ("enabled = true\ntls = true\n[tls]\nenabled = false", "needs tls.enabled"),
    ],
)
def test_what_cannot_be(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError, match=fault):
        settings_of(tmp_path, text)
