"""JSON Web Tokens as user identity (PS3.7 D.3.3.7, User-Identity-Type 5; RFC 7519)."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import sha256
from math import isfinite
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.scopes import scopes_in
from isocenter.services.security.access.token_keys import FileKeys, KeysUrl, TokenKeys, UrlKeys

if TYPE_CHECKING:
    from joserfc.jwk import Key

#: Signatures with a private key only.  With HS256 whoever can verify can forge, and a public
#: key could be taken for the secret (CVE-2015-9235).
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
#: Tokens whose verification is remembered.
_MOST_REMEMBERED: Final = 1_024
#: Keys that a token without a key ID is tried with.
_MOST_TRIED: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Which tokens are believed.

    Attributes:
        keys: a file with the issuer's public keys: a JWK set (RFC 7517), or PEM; or where the
            issuer shows such a set.
        issuer, audience: what ``iss`` and ``aud`` must be.
        user_claim: the claim that names the user.
        clock_skew: how far clocks may be apart, in seconds.
    """

    keys: Path | KeysUrl
    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    user_claim: str = "sub"
    clock_skew: int = 60


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that is believed.

    Attributes:
        subject: whom it means.
        scopes: of ours, that narrow what it is good for; empty: nothing is narrowed.
        expires_at: in seconds since 1970.
    """

    subject: str
    scopes: frozenset[str]
    expires_at: float


class TokenVerifier:
    """Verifies tokens by the keys of their issuer.

    Args:
        before: the one in whose place this comes: keys that it has fetched are used until there
            are newer ones.

    Raises on construction:
        PolicyError: the keys cannot be used, or joserfc is not installed.
    """

    def __init__(self, rules: TokenRules, before: TokenVerifier | None = None) -> None:
        self._rules = rules
        self.keys: TokenKeys
        if isinstance(rules.keys, Path):
            self.keys = FileKeys(rules.keys)
        elif (
            before is not None
            and isinstance(before.keys, UrlKeys)
            and before.keys.source == rules.keys
        ):
            self.keys = before.keys
            before.keys.ask_anew()
        else:
            self.keys = UrlKeys(rules.keys)
        #: Digest of a token → what it says, and the keys that it was verified by.
        self._verified: OrderedDict[bytes, tuple[VerifiedToken, Sequence[Key]]] = OrderedDict()

    def known(self, token: bytes) -> VerifiedToken | None:
        """What *token* says, if it was verified before and nothing has changed since: the one
        question of a viewer that asks for a thousand frames.  Does not block."""
        found = self._verified.get(sha256(token).digest())
        if found is None:
            return None
        verified, keys = found
        if verified.expires_at <= time() or not self.keys.is_in_use(keys):
            return None
        return verified

    def verify(self, token: bytes) -> VerifiedToken:
        """What *token* says.  Blocks.

        Raises:
            PolicyError: it is not believed; the message says why, and nothing of the token.
            KeysUnavailableError: it cannot be judged now.
        """
        claims, keys = self._claims(token)
        verified = self._verified_by(claims)
        self._remember(token, verified, keys)
        return verified

    def claims(self, token: bytes) -> dict[str, Any]:
        """All that *token* says.  Blocks, and raises as `verify` does."""
        return self._claims(token)[0]

    def _claims(self, token: bytes) -> tuple[dict[str, Any], Sequence[Key]]:
        """What it says, and the keys by one of which it was verified."""
        keys = self.keys.current()
        key_id = _key_id(token)
        fitting = _fitting(keys, key_id)
        if not fitting:
            keys = self.keys.after_unknown(keys)
            fitting = _fitting(keys, key_id)
        fault = PolicyError("the token is not believed (it names a key that is none of its issuer)")
        for key in fitting:
            try:
                return self._claims_by(token, key), keys
            except PolicyError as error:
                fault = error
        raise fault

    def _claims_by(self, token: bytes, key: Key) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        rules = self._rules
        claims_wanted: dict[str, Any] = {
            "iss": {"essential": True, "value": rules.issuer},
            "aud": {"essential": True, "value": rules.audience},
            "exp": {"essential": True},
            rules.user_claim: {"essential": True},
        }
        try:
            decoded = jwt.decode(token, key, algorithms=list(rules.algorithms))
            jwt.JWTClaimsRegistry(leeway=rules.clock_skew, **claims_wanted).validate(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise PolicyError(f"the token is not believed ({type(error).__name__})") from None
        claims: dict[str, Any] = decoded.claims
        if not isfinite(float(claims["exp"])):  # JSON of Python reads NaN, which is before nothing
            raise PolicyError("the token is not believed (it says no time at which it ends)")
        return claims

    def _verified_by(self, claims: dict[str, Any]) -> VerifiedToken:
        subject = claims[self._rules.user_claim]
        if not isinstance(subject, str):
            raise PolicyError(f"the claim {self._rules.user_claim} of the token is no text")
        scopes = scopes_in(claims.get("scope", claims.get("scp", "")))
        return VerifiedToken(subject, scopes, float(claims["exp"]) + self._rules.clock_skew)

    def _remember(self, token: bytes, verified: VerifiedToken, keys: Sequence[Key]) -> None:
        self._verified[sha256(token).digest()] = (verified, keys)
        while len(self._verified) > _MOST_REMEMBERED:
            self._verified.popitem(last=False)


def _key_id(token: bytes) -> str | None:
    """The ``kid`` that a token names, which nothing has verified yet."""
    import orjson

    head = token.partition(b".")[0]
    try:
        said = orjson.loads(urlsafe_b64decode(head + b"=" * (-len(head) % 4)))
    except ValueError:
        return None
    key_id = said.get("kid") if isinstance(said, dict) else None
    return key_id if isinstance(key_id, str) else None


def _fitting(keys: Sequence[Key], key_id: str | None) -> Sequence[Key]:
    """The keys that a token may have been signed by: the one that it names, or, as it names none
    or they have no names, the first few."""
    named = [key for key in keys if key_id is not None and key.kid == key_id]
    unnamed = [key for key in keys if key.kid is None or key_id is None]
    return named or unnamed[:_MOST_TRIED]
