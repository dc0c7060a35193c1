"""A race between two threads of pynetdicom as SCU, which loses responses on a busy machine."""

from __future__ import annotations

import sys
import threading
from typing import Any


class _Checkpoint(threading.Event):
    """Where the reactor of an association waits while its user sends and waits for the response.

    Who sends clears it and waits for ``_is_paused``.  The reactor may have passed it just then,
    or have been let go by the last request and not run yet: ``_is_paused`` is true all the same,
    the request is sent, and the reactor takes the response from the queue as if it were a request.
    Here nobody passes without ``_is_paused`` being false in the same moment.
    """

    def __init__(self, association: Any) -> None:
        super().__init__()
        self._association = association
        self._passing = threading.Lock()

    def clear(self) -> None:
        with self._passing:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        while super().wait(timeout):
            with self._passing:
                if self.is_set():
                    self._association._is_paused = False
                    return True
        return False


def mend_pynetdicom() -> None:
    """If it is imported at all: no response is lost any more."""
    module = sys.modules.get("pynetdicom.association")
    if module is None or hasattr(module, "_unmended"):
        return
    module._unmended = plain = module.Association.__init__  # type: ignore[attr-defined]

    def init(self: Any, *words: Any, **options: Any) -> None:
        plain(self, *words, **options)
        self._reactor_checkpoint = _Checkpoint(self)
        self._reactor_checkpoint.set()

    module.Association.__init__ = init
