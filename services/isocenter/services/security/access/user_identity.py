"""User identity items of A-ASSOCIATE-RQ: who the user is, proven (PS3.7 D.3.3.7).

Names and passcodes are verified here, tokens by the keys of their issuer, Kerberos tickets
and SAML assertions by a function that an installed distribution offers under the entry
point group ``isocenter.user_identity``, as ``kerberos`` or ``saml``:

    def verify(primary: bytes) -> tuple[str, bytes]: ...

It returns the subject and the server's response (the Kerberos server ticket, the SAML
response), and raises ValueError for what it does not believe.  It runs in a worker thread.

A type that nothing here can verify is ignored, as the standard allows; the requestor learns
it by the missing response.  No name, passcode or token is ever logged before it is proven.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from typing import Final, cast

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.engine.items import UserIdentity
from isocenter.engine.pdu import AssociateReject
from isocenter.services.association.access import NO_REASON_GIVEN, TEMPORARY_CONGESTION
from isocenter.services.security.access import passwords
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.failed_sign_ins import FailedSignIns, FailureRules
from isocenter.services.security.access.policy import Policy, User
from isocenter.services.security.access.token_keys import KeysUnavailableError
from isocenter.services.security.access.tokens import TokenRules, TokenVerifier, VerifiedToken

log = logging.getLogger("isocenter.access")

USERNAME: Final = 1
USERNAME_AND_PASSCODE: Final = 2
KERBEROS: Final = 3
SAML: Final = 4
JWT: Final = 5
_KINDS: Final = {
    USERNAME: "username",
    USERNAME_AND_PASSCODE: "username and passcode",
    KERBEROS: "Kerberos",
    SAML: "SAML",
    JWT: "JSON Web Token",
}

ENTRY_POINTS: Final = "isocenter.user_identity"
#: User-Identity-Type → the name of its entry point.
_HOOK_NAMES: Final = {KERBEROS: "kerberos", SAML: "saml"}

#: Verifies a ticket or an assertion: (subject, response).
Hook = Callable[[bytes], tuple[str, bytes]]

#: Verifications at once: each takes 19 MiB and some 30 ms of a core.
_MOST_AT_ONCE: Final = 2
#: Associations that may wait for theirs; more would wait past their deadline.
_MOST_WAITING: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRules:
    """Which users are believed.

    Attributes:
        required: no association without a user who is proven.
        tokens: None: JSON Web Tokens are ignored.
        failures: how often an address may fail.
    """

    required: bool = False
    tokens: TokenRules | None = None
    failures: FailureRules = FailureRules()


@dataclass(frozen=True, slots=True)
class UserIdentified:
    """The user is proven.

    Attributes:
        response: of the sub-item 59H; None: none is sent.
        token: that proved it; None: something else did.
    """

    user: User
    response: bytes | None
    token: VerifiedToken | None = None


@dataclass(frozen=True, slots=True)
class UserRejected:
    """The user is not proven, and the association is rejected."""

    reject: AssociateReject
    why: str
    cure: str = ""


class UserIdentities:
    """Proves users, a few at a time.

    Args:
        hooks: by User-Identity-Type; None: those that are installed.

    Raises on construction and on `reload`:
        PolicyError: the keys of the tokens' issuer cannot be used.
    """

    def __init__(self, rules: IdentityRules, hooks: Mapping[int, Hook] | None = None) -> None:
        self.rules = rules
        self._hooks = installed_hooks() if hooks is None else hooks
        self._limiter = trio.CapacityLimiter(_MOST_AT_ONCE)
        self._waiting = 0
        self.failures = FailedSignIns(rules.failures)
        self._tokens: TokenVerifier | None = None
        self.reload(rules)

    def reload(self, rules: IdentityRules) -> None:
        """Use other rules, with their keys read again."""
        tokens = rules.tokens
        self._tokens = None if tokens is None else TokenVerifier(tokens, self._tokens)
        self.rules = rules
        self.failures.rules = rules.failures

    @property
    def verifies_tokens(self) -> bool:
        """Whether the settings name an issuer of tokens."""
        return self._tokens is not None

    async def identify(
        self, item: UserIdentity | None, policy: Policy, host: str
    ) -> UserIdentified | UserRejected | None:
        """Who *item* proves to be; None: nobody, and nobody has to.

        Args:
            host: where the peer calls from; failures are counted for each.
        """
        verify = None if item is None else self._verifier(item, policy)
        if item is None or verify is None:
            if not self.rules.required:
                return None
            return UserRejected(
                NO_REASON_GIVEN,
                "no user identity that can be verified, and identity.required is set; let the "
                "peer send username and passcode, or a token",
            )
        kind = _KINDS[item.identity_type]
        known = self._known_token(item, policy)
        if known is not None:
            return known
        if self.failures.has_failed_often(host):
            most = self.failures.rules
            return UserRejected(
                TEMPORARY_CONGESTION,
                f"user identity by {kind} not verified: {most.most} have failed from {host} "
                f"within {most.seconds:g} s; it may try again after that",
            )
        if self._waiting >= _MOST_WAITING:
            return UserRejected(
                TEMPORARY_CONGESTION,
                f"user identity by {kind} not verified: {_MOST_WAITING} others wait for theirs",
            )
        self._waiting += 1
        try:
            found = await trio.to_thread.run_sync(
                verify, limiter=self._limiter, abandon_on_cancel=True
            )
        except KeysUnavailableError as error:
            return UserRejected(
                TEMPORARY_CONGESTION, f"user identity by {kind} not verified: {error}"
            )
        except PolicyError as error:
            self.failures.count(host)
            return UserRejected(
                NO_REASON_GIVEN, f"user identity by {kind} was not accepted: {error}"
            )
        finally:
            self._waiting -= 1
        return replace(found, response=found.response if item.positive_response_requested else None)

    def _known_token(self, item: UserIdentity, policy: Policy) -> UserIdentified | None:
        """Who shows a token that was verified before, and is a user still."""
        if item.identity_type != JWT or self._tokens is None:
            return None
        verified = self._tokens.known(bytes(item.primary_field))
        user = None if verified is None else policy.user_of_subject(verified.subject)
        if user is None or not user.active:
            return None
        response = b"" if item.positive_response_requested else None
        return UserIdentified(user, response, verified)

    def _verifier(self, item: UserIdentity, policy: Policy) -> Callable[[], UserIdentified] | None:
        primary, secondary = bytes(item.primary_field), bytes(item.secondary_field)
        match item.identity_type:
            case 1 if policy.users:
                return partial(_by_name, policy, primary)
            case 2 if policy.users:
                return partial(_by_passcode, policy, primary, secondary)
            case 3 | 4 if item.identity_type in self._hooks:
                return partial(_by_hook, policy, self._hooks[item.identity_type], primary)
            case 5 if self._tokens is not None:
                return partial(_by_token, policy, self._tokens, primary)
            case _:
                return None


def installed_hooks() -> dict[int, Hook]:
    """What installed distributions offer for Kerberos and SAML."""
    hooks: dict[int, Hook] = {}
    for kind, name in _HOOK_NAMES.items():
        for point in entry_points(group=ENTRY_POINTS, name=name):
            hooks[kind] = cast(Hook, point.load())
    return hooks


# In a worker thread.  A wrong name and a wrong passcode give the same answer after the same time.

_WRONG: Final = "name or passcode is wrong, or the user is not active; see isocenter user list"


def _by_name(policy: Policy, name: bytes) -> UserIdentified:
    user = policy.user(_text(name))
    if user is None or not user.without_passcode:
        raise PolicyError(
            "no such user is believed without a passcode; see isocenter user add --without-passcode"
        )
    return UserIdentified(_active(user), b"")


def _by_passcode(policy: Policy, name: bytes, passcode: bytes) -> UserIdentified:
    user = policy.user(_text(name))
    too_long = len(passcode) > passwords.MOST_BYTES
    right = passwords.verify_passcode(
        user.password_hash if user is not None else "", b"" if too_long else passcode
    )
    if user is None or not right:
        raise PolicyError(_WRONG)
    return UserIdentified(_active(user), b"")


def _by_token(policy: Policy, tokens: TokenVerifier, token: bytes) -> UserIdentified:
    verified = tokens.verify(token)
    return UserIdentified(_known(policy, verified.subject), b"", verified)


def _by_hook(policy: Policy, hook: Hook, primary: bytes) -> UserIdentified:
    try:
        subject, response = hook(primary)
    except ValueError as error:
        raise PolicyError(f"the hook does not believe it ({type(error).__name__})") from None
    except Exception as error:  # a bug of the hook admits nobody
        log.error("a hook for user identity failed: %s", type(error).__name__)
        raise PolicyError("the hook failed") from None
    return UserIdentified(_known(policy, subject), response)


def _known(policy: Policy, subject: str) -> User:
    user = policy.user_of_subject(subject)
    if user is None:
        raise PolicyError(
            "it is proven, but no user here has that subject; see isocenter user add --subject"
        )
    return _active(user)


def _active(user: User) -> User:
    if not user.active:
        raise PolicyError(_WRONG)
    return user


def _text(name: bytes) -> str:
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        return ""
