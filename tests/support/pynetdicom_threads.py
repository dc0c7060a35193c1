"""A race between two threads of pynetdicom as SCU, which loses responses on a busy machine."""

from __future__ import annotations

import threading
from typing import Any


class Checkpoint(threading.Event):
    """Mends a race of pynetdicom 3.0: its reactor says that it is paused for a moment after it went
    on, so that an operation right behind another may lose its response to the reactor
    ("Received unexpected … service message").  Here it says so only while it waits."""

    def __init__(self, association: Any) -> None:
        super().__init__()
        self._association = association
        self._both = threading.Lock()
        self.set()

    def clear(self) -> None:
        with self._both:
            self._association._is_paused = False
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        with self._both:
            self._association._is_paused = not self.is_set()
        return super().wait(timeout)
