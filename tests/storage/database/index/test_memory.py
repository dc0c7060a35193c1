from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from isocenter.services.archive.ports import Index
from isocenter.storage.database.index.memory import MemoryIndex
from storage.index_contract import IndexContract, IndexFactory


class TestMemoryIndex(IndexContract):
    @pytest.fixture
    def open_index(self) -> IndexFactory:
        @asynccontextmanager
        async def open_index() -> AsyncIterator[Index]:
            index = MemoryIndex()
            yield index
            await index.aclose()

        return open_index
