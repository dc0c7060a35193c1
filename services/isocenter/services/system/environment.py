"""Environment variables that are settings of ours."""

from __future__ import annotations

import os
from typing import Final

#: Begins the name of every variable that sets something.
PREFIX: Final = "ISOCENTER__"


def environment_of_programs() -> dict[str, str]:
    """Ours, for programs that we start: without settings, which may hold secrets, and without
    what systemd tells this process alone."""
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith((PREFIX, "LISTEN_", "NOTIFY_", "WATCHDOG_"))
    }
