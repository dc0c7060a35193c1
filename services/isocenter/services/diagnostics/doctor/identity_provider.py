"""Check of the identity provider that people sign in at."""

from __future__ import annotations

from typing import Final

from isocenter.services.diagnostics.doctor.check import CheckResult
from isocenter.services.diagnostics.findings import Side, error, warning
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.openid_provider import (
    OpenIdProvider,
    ProviderUnavailableError,
)
from isocenter.services.settings.settings import Settings

_WHAT: Final = "provider"


def check_provider(settings: Settings) -> CheckResult:
    """Whether it can be asked, and signs anybody in; blocks."""
    oidc = settings.oidc
    try:
        seen = OpenIdProvider(oidc.rules()).examine()
    except ProviderUnavailableError as fault:
        cure = "look at oidc.issuer and oidc.ca, and whether this machine reaches it"
        return CheckResult(_WHAT, str(fault), (error(str(fault), cure=cure, side=Side.HERE),))
    except PolicyError as fault:
        return CheckResult(_WHAT, str(fault), (error(str(fault), side=Side.HERE),))
    if oidc.roles:
        return CheckResult(_WHAT, seen)
    text = "oidc.roles gives no group a role: only users of the policy get in by the provider"
    cure = "name groups as radiology=Radiologist"
    return CheckResult(_WHAT, seen, (warning(text, cure=cure, side=Side.HERE),))
