"""Commands that serve one service: what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isocenter.services.cli import main
from isocenter.services.cli.server import single_service
from isocenter.services.settings.source import SettingsSource


@pytest.mark.parametrize(
    "words",
    [
        ["storescp", "0", "--storage-dir"],
        ["mppsscp", "0", "--data-dir"],
        ["upsscp", "0", "--data-dir"],
    ],
)
def test_tasks_and_jobs_of_the_archive_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """A data directory may be that of an archive: a task of it could delete, a job send."""
    found: list[SettingsSource] = []

    def serve(source: SettingsSource, *, watch: Callable[..., None], prog: str) -> int:
        found.append(source)
        return 0

    monkeypatch.setattr(single_service, "run_server", serve)
    assert main([*words, str(tmp_path)]) == 0
    settings = found[0].settings()
    assert not settings.schedules.enabled
    assert not settings.jobs.enabled
    assert not settings.web.enabled
    assert not settings.hl7.enabled
    assert settings.storage.data_dir == tmp_path
