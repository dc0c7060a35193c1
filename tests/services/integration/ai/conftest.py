"""What tests of AI services share."""

from __future__ import annotations

import pytest

from isocenter.services.workflow.jobs import runner


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is seen at once."""
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.02)
