"""Archive in memory: objects and index of a whole archive, without a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from isocenter.services.archive.archive import Archive
from isocenter.services.composition.archive import open_archive
from isocenter.services.concurrency import alone
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.sections.storage import IN_MEMORY


@asynccontextmanager
async def open_test_archive(
    settings: Mapping[str, object] | None = None,
) -> AsyncIterator[Archive]:
    """An archive of its own, gone at the end; neither environment nor any file is looked at.

    Args:
        settings: by key, such as ``{"storage.duplicates": "reject"}``.

    Raises:
        SettingsError: one cannot be.
    """
    overrides = {"storage.data_dir": IN_MEMORY, **(settings or {})}
    loaded = load_settings(environ={}, overrides=overrides, changes={})
    try:
        async with open_archive(loaded) as archive:
            yield archive
    except ExceptionGroup as group:
        # Whoever tests sees what the test raised, and no group of it.
        raise alone(group) from None
