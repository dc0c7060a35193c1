"""SOP classes in the settings."""

from __future__ import annotations

import pytest

from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.sop_classes import SopClassKind

STEPS = "1.2.840.10008.3.1.2.3.4"


@pytest.mark.parametrize("text", [STEPS, "ModalityPerformedProcedureStepRetrieve"])
def test_a_uid_and_a_keyword_are_the_same(text: str) -> None:
    kind = SopClassKind()
    assert kind.from_toml(text) == STEPS
    assert kind.to_toml(kind.from_text(text)) == f'"{STEPS}"'


def test_a_private_one_is_a_uid() -> None:
    assert SopClassKind().from_text("1.2.826.0.1.3680043.9.7") == "1.2.826.0.1.3680043.9.7"


@pytest.mark.parametrize("text", ["Steps", "1..2", "1.2.840.10008.1.2.1", "", "ISO_IR 100"])
def test_what_is_no_sop_class_is_a_fault(text: str) -> None:
    with pytest.raises(SettingsError, match="must be a SOP class by UID"):
        load_settings(environ={}, overrides={"query.n_get_sop_classes": [text]})
