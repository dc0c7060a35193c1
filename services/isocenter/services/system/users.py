"""Users of the operating system."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Final

#: Whoever logged in, whomever they became by sudo or su since; the kernel keeps it.
_LOGIN_UID: Final = Path("/proc/self/loginuid")
_NO_LOGIN: Final = 0xFFFF_FFFF


def user_name(uid: int) -> str:
    """As the system calls a user."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):  # a user ID without a name, as in containers
        return f"user {uid}"


def acting_user() -> str:
    """Who has this done, as far as the system knows; what the environment says can be anything."""
    if not hasattr(os, "geteuid"):
        return getpass.getuser()
    uid = os.geteuid()
    try:
        login = int(_LOGIN_UID.read_text())
        uid = uid if login == _NO_LOGIN else login
    except (OSError, ValueError):
        pass  # not Linux, or a kernel without it
    return user_name(uid)
