"""One-time codes, held against the vectors of RFC 6238."""

from __future__ import annotations

import base64

import pytest

from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.one_time_codes import (
    new_secret,
    provisioning_uri,
    step_of,
)

SECRET = base64.b32encode(b"12345678901234567890").decode()


@pytest.mark.parametrize(
    ("now", "code"),
    [  # RFC 6238, appendix B, the last six digits
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_the_vectors_of_the_standard(now: int, code: str) -> None:
    assert step_of(SECRET, code, now) == now // 30
    assert step_of(SECRET, f"{code[:3]} {code[3:]}", now) == now // 30
    assert step_of(SECRET, code, now + 60) is None
    assert step_of(SECRET, code[:5], now) is None


@pytest.mark.parametrize("code", ["", "é", "12345x", "0" * 1_000])
def test_what_is_no_code_is_refused(code: str) -> None:
    assert step_of(SECRET, code, 59) is None


@pytest.mark.parametrize("secret", ["no base 32!", "JBSW", "1"])
def test_a_secret_that_somebody_broke_is_told(secret: str) -> None:
    with pytest.raises(PolicyError, match="isocenter user totp"):
        step_of(secret, "123456", 59)


def test_an_authenticator_can_read_it() -> None:
    secret = new_secret()
    assert secret != new_secret()
    uri = provisioning_uri(secret, "alice b", "ARCHIVE")
    assert uri.startswith("otpauth://totp/ARCHIVE:alice%20b?")
    assert f"secret={secret}" in uri
