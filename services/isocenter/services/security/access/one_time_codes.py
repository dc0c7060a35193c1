"""One-time codes of an authenticator (TOTP, RFC 6238): six digits, new every thirty seconds."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from isocenter.services.security.access.errors import PolicyError

if TYPE_CHECKING:
    from pyotp import TOTP

STEP_SECONDS: Final = 30
#: Clocks differ, and typing takes its time: the code before, and the one after, are taken as well.
_STEPS_AROUND: Final = (0, -1, 1)


def new_secret() -> str:
    """What user and archive share, in base 32.

    Raises:
        PolicyError: pyotp is not installed.
    """
    try:
        import pyotp
    except ImportError as error:
        raise _missing() from error
    return pyotp.random_base32()


def provisioning_uri(secret: str, user: str, issuer: str) -> str:
    """What an authenticator reads as a QR code (``otpauth://``)."""
    return _totp(secret).provisioning_uri(name=user, issuer_name=issuer)


def step_of(secret: str, code: str, now: float) -> int | None:
    """The time step that *code* is of; None: it is none of this moment.

    Raises:
        PolicyError: pyotp is not installed.
    """
    code = code.replace(" ", "")
    totp = _totp(secret)
    step = int(now) // STEP_SECONDS
    for around in _STEPS_AROUND:
        if hmac.compare_digest(totp.generate_otp(step + around).encode(), code.encode()):
            return step + around
    return None


def _totp(secret: str) -> TOTP:
    try:
        from pyotp import TOTP
    except ImportError as error:
        raise _missing() from error
    try:
        return TOTP(secret, interval=STEP_SECONDS)
    except ValueError as error:
        raise PolicyError(
            "the secret of a user's one-time codes cannot be used; see isocenter user totp"
        ) from error


def _missing() -> PolicyError:
    return PolicyError(
        "one-time codes need pyotp; install it with pip install 'isocenter[identity]'"
    )
