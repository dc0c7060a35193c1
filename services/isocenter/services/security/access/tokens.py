"""JSON Web Tokens as user identity (PS3.7 D.3.3.7, User-Identity-Type 5; RFC 7519)."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.scopes import scopes_in

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

#: Signatures with a private key only.  With HS256 whoever can verify can forge, and a public
#: key could be taken for the secret (CVE-2015-9235).
ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
#: How far clocks may be apart.
_LEEWAY_SECONDS: Final = 60
_MOST_BYTES: Final = 1 << 20
_KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """Which tokens are believed.

    Attributes:
        keys: file with the issuer's public keys: a JWK set (RFC 7517), or PEM.
        issuer, audience: what ``iss`` and ``aud`` must be.
        user_claim: the claim that names the user.
    """

    keys: Path
    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    user_claim: str = "sub"


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
    """Verifies tokens by the keys that were in the file when it was made.

    Raises on construction:
        PolicyError: the keys cannot be used, or joserfc is not installed.
    """

    def __init__(self, rules: TokenRules) -> None:
        self._rules = rules
        self._keys = _load_keys(rules.keys)

    def verify(self, token: bytes) -> VerifiedToken:
        """What *token* says.

        Raises:
            PolicyError: it is not believed; the message says why, and nothing of the token.
        """
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
            decoded = jwt.decode(token, self._keys, algorithms=list(rules.algorithms))
            jwt.JWTClaimsRegistry(leeway=_LEEWAY_SECONDS, **claims_wanted).validate(decoded.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise PolicyError(f"the token is not believed ({type(error).__name__})") from None
        claims = decoded.claims
        subject = claims[rules.user_claim]
        if not isinstance(subject, str):
            raise PolicyError(f"the claim {rules.user_claim} of the token is no text")
        expires_at = float(claims["exp"])
        if not isfinite(expires_at):  # JSON of Python reads NaN, which is before nothing
            raise PolicyError("the token says no time at which it ends")
        return VerifiedToken(
            subject, scopes_in(claims.get("scope", "")), expires_at + _LEEWAY_SECONDS
        )


def _load_keys(path: Path) -> KeySet:
    try:
        from joserfc.errors import JoseError
        from joserfc.jwk import KeySet
    except ImportError as error:
        raise PolicyError(
            "tokens need joserfc; install it with pip install 'isocenter[identity]'"
        ) from error
    import orjson

    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES)
        keys: KeySet
        if content.lstrip().startswith(b"{"):
            keys = KeySet.import_key_set(orjson.loads(content))
        else:
            keys = KeySet([_pem_key(content)])
    except OSError as error:
        raise PolicyError(
            f"{path}: {error.strerror}; set identity.jwt_keys to the issuer's public keys"
        ) from error
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise PolicyError(
            f"{path}: holds no public keys; give a JWK set, or a public key in PEM"
        ) from error
    if any(key.key_type not in _KEY_TYPES for key in keys.keys):
        raise PolicyError(f"{path}: holds a shared secret; tokens are verified by public keys only")
    return keys


def _pem_key(content: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    match load_pem_public_key(content):
        case rsa.RSAPublicKey():
            return RSAKey.import_key(content)
        case ec.EllipticCurvePublicKey():
            return ECKey.import_key(content)
        case _:
            return OKPKey.import_key(content)
