"""Names of workers, which say of what node they are."""

from __future__ import annotations

import secrets
from contextvars import ContextVar
from typing import Final

#: Between the name of a node, which has none, and that of one of its workers.
NODE_MARK: Final = "/"
#: The name of the node that this process belongs to; empty: there is but one.
NODE: Final[ContextVar[str]] = ContextVar("NODE", default="")


def new_worker_name() -> str:
    """A name that no other worker has."""
    node = NODE.get()
    token = secrets.token_hex(8)
    return f"{node}{NODE_MARK}{token}" if node else token
