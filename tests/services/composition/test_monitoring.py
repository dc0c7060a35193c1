"""Monitoring beside a server: what goes wrong in it ends nothing."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.composition import monitoring as module
from isocenter.services.composition.monitoring import Monitoring
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.serving import serving


async def test_figures_that_cannot_be_looked_at_end_no_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("isocenter"), "propagate", True)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)
    monitoring = Monitoring(Settings(), Notices(), (), version="1")
    looked = 0
    again = trio.Event()

    def broken() -> None:
        nonlocal looked
        looked += 1
        if looked > 2:
            again.set()
        raise ZeroDivisionError

    monkeypatch.setattr(monitoring.metrics, "refresh", broken)
    nobody: Any = None
    async with Archive(MemoryStore(), MemoryIndex()) as archive, serving() as server:
        health = monitoring.health_of(server, archive)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(monitoring.run, server, archive, health, nobody, nobody)
            with trio.fail_after(60):
                await again.wait()
            nursery.cancel_scope.cancel()
    assert "figures cannot be looked at: ZeroDivisionError" in caplog.text
