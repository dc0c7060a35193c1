"""Access control as the settings want it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isocenter.services.association.access import AeTitleRules
from isocenter.services.notices import ConfigurationReloaded, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.failed_sign_ins import FailureRules
from isocenter.services.security.access.openid_provider import OpenIdProvider
from isocenter.services.security.access.permissions import NO_OWN_NEEDS, OwnNeeds
from isocenter.services.security.access.policy import Policy
from isocenter.services.security.access.policy_file import ACCESS_FOLDER, CurrentPolicy, PolicyFile
from isocenter.services.security.access.rejected_callers import RejectedCallers, RejectedFile
from isocenter.services.security.access.token_keys import KeysUrl
from isocenter.services.security.access.tokens import TokenRules
from isocenter.services.security.access.user_identity import IdentityRules, UserIdentities
from isocenter.services.settings.sections.access import TlsIdentity
from isocenter.services.settings.settings import Settings


def access_folder(settings: Settings) -> Path | None:
    """Where policy and rejected callers lie; None: nothing is kept."""
    if settings.storage.is_in_memory:
        return None
    return Path(settings.storage.data_dir) / ACCESS_FOLDER


def access_of(settings: Settings) -> AeTitleRules:
    """Who may associate by the settings alone."""
    return AeTitleRules(
        ae_titles=settings.ae_titles,
        allow=() if settings.access.accept_unknown_calling_ae_title else settings.access.allow,
        certificate_owns_ae_title=settings.tls.identity is TlsIdentity.CN,
        uniform_rejection=settings.access.uniform_rejection,
    )


def identity_rules_of(settings: Settings) -> IdentityRules:
    """Which users are believed."""
    identity = settings.identity
    tokens: TokenRules | None = None
    if identity.has_issuer:
        tokens = TokenRules(
            keys=identity.jwt_keys or KeysUrl(url=identity.jwt_keys_url, ca=identity.jwt_keys_ca),
            issuer=identity.jwt_issuer,
            audience=identity.jwt_audience,
            algorithms=identity.jwt_algorithms,
            user_claim=identity.jwt_user_claim,
            clock_skew=identity.jwt_clock_skew,
        )
    return IdentityRules(
        required=identity.required,
        tokens=tokens,
        failures=FailureRules(most=identity.max_failures, seconds=identity.failure_window),
    )


def openid_provider_of(settings: Settings) -> OpenIdProvider | None:
    """Where people sign in with a browser; None: here alone.

    Raises:
        PolicyError: its CA, or the secret of this client, cannot be used.
    """
    oidc = settings.oidc
    if not oidc.issuer:
        return None
    return OpenIdProvider(oidc.rules())


def access_control_of(
    settings: Settings,
    own_needs: OwnNeeds = NO_OWN_NEEDS,
    notices: Notices | None = None,
) -> PolicyAccessControl:
    """Who may associate, and for what.

    Args:
        own_needs: those of plug-ins.
        notices: told when the policy was read again.

    Raises:
        PolicyError: a policy, or keys of a tokens' issuer, cannot be used.
    """
    folder = access_folder(settings)

    def tell(fault: str) -> None:
        if notices is not None:
            notices.publish(ConfigurationReloaded(what="policy", fault=fault))

    return PolicyAccessControl(
        access_of(settings),
        CurrentPolicy(None if folder is None else PolicyFile(folder), on_change=tell),
        UserIdentities(identity_rules_of(settings)),
        own_needs,
        settings.access.enforce,
    )


def policy_of(settings: Settings) -> Callable[[], Policy]:
    """The policy as it is now, for those who ask beside the server's access control.

    Asking raises `PolicyError` where there is one that cannot be used.
    """
    current: list[CurrentPolicy] = []

    def ask() -> Policy:
        if not current:
            folder = access_folder(settings)
            file = None if folder is None else PolicyFile(folder)
            current.append(CurrentPolicy(file, is_told=False))
        return current[0].refresh()

    return ask


def rejected_callers_of(settings: Settings) -> RejectedCallers:
    """Remembers who is turned away."""
    folder = access_folder(settings)
    return RejectedCallers(None if folder is None else RejectedFile(folder))
