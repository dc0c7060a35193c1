"""Passcodes of users, kept as argon2id hashes (RFC 9106)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from isocenter.services.security.access.errors import PolicyError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

#: What one verification costs, by OWASP's advice for servers: few can run at once, and
#: strangers may ask for them.
_MEMORY_KIBIBYTES: Final = 19_456
_PASSES: Final = 2
_LANES: Final = 1
#: A field of the item holds up to 64 KiB; nobody has such a passcode.
MOST_BYTES: Final = 1_024
LEAST_CHARACTERS: Final = 8


@cache
def _hasher() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError as error:
        raise PolicyError(
            "passcodes need argon2-cffi; install it with pip install 'isocenter[identity]'"
        ) from error
    return PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIBIBYTES, parallelism=_LANES)


def hash_passcode(passcode: str) -> str:
    """What is kept of *passcode*.

    Raises:
        PolicyError: it is too short or too long, or argon2-cffi is not installed.
    """
    if not (len(passcode) >= LEAST_CHARACTERS and len(passcode.encode()) <= MOST_BYTES):
        raise PolicyError(f"a passcode has {LEAST_CHARACTERS} characters to {MOST_BYTES} bytes")
    return _hasher().hash(passcode)


@cache
def _nobodys() -> str:
    """The hash of a passcode that nobody has: who does not exist costs as much as who does."""
    import secrets

    return _hasher().hash(secrets.token_hex())


def verify_passcode(password_hash: str, passcode: bytes) -> bool:
    """Whether *passcode* is the one of *password_hash*; takes the same time when there is none.

    Raises:
        PolicyError: argon2-cffi is not installed.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    hasher = _hasher()
    try:
        hasher.verify(password_hash or _nobodys(), passcode)
    except (VerificationError, InvalidHashError):
        return False
    return bool(password_hash)
