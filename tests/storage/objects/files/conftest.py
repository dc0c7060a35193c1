"""Stores of files, closed with their test, also where it has them crash."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from isocenter.storage.objects.files.store import FileStore
from storage.power_model import Crash


@pytest.fixture(autouse=True)
def _stores_are_closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is made ahead of time is open until then: 64 files, and the journal."""
    made: list[FileStore] = []
    begin = FileStore.__init__

    def begin_and_note(self: FileStore, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        made.append(self)

    monkeypatch.setattr(FileStore, "__init__", begin_and_note)
    yield
    for store in made:
        with suppress(Crash, OSError):  # of a model that has crashed
            store._close()
