"""OpenID Connect provider: its metadata, and who it says somebody is; calls block.

OpenID Connect Core 1.0 (authorization code flow), Discovery 1.0, RP-Initiated Logout 1.0, PKCE
(RFC 7636), and the issuer in the answer (RFC 9207).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.net.addresses import is_loopback
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.provider_requests import ask_provider
from isocenter.services.security.access.token_keys import KeysUnavailableError, KeysUrl, UrlKeys
from isocenter.services.security.access.tokens import TokenRules, TokenVerifier

log = logging.getLogger("isocenter.access")

_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_FRESH_SECONDS: Final = 3_600.0
_SECRET_BYTES: Final = 32
_MOST_GROUPS: Final = 1_000
_MOST_NAME: Final = 128
_MOST_SECRET: Final = 4_096


class ProviderUnavailableError(PolicyError):
    """The provider cannot be asked now, or does not answer as one does: nobody's fault who signs
    in."""

    error_code = ErrorCode.IDENTITY_PROVIDER


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdRules:
    """Which provider is believed, and what for.

    Attributes:
        client_secret_file: of this client; None: it is a public one, that PKCE alone protects.
        ca: file of the CAs by which its certificate is verified; None: those of the system.
        name_claim: names somebody who is no user of the policy.
        groups_claim: a path of claims, with dots: ``realm_access.roles``.
        roles: group → the roles that its members have.
        label: of the provider, on the page to sign in.
    """

    issuer: str
    client_id: str
    client_secret_file: Path | None = None
    ca: Path | None = None
    scopes: tuple[str, ...] = ("openid", "profile")
    name_claim: str = "preferred_username"
    groups_claim: str = "groups"
    roles: Mapping[str, tuple[str, ...]]
    algorithms: tuple[str, ...]
    clock_skew: int = 60
    label: str = "single sign-on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a browser keeps while somebody signs in elsewhere.

    Attributes:
        verifier: of PKCE.
        goes_to: the path to be shown then.
    """

    state: str
    nonce: str
    verifier: str
    goes_to: str

    @classmethod
    def new(cls, goes_to: str) -> Attempt:
        """With secrets that nobody knows."""
        state, nonce, verifier = (secrets.token_urlsafe(_SECRET_BYTES) for _ in range(3))
        return cls(state=state, nonce=nonce, verifier=verifier, goes_to=goes_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who a provider says somebody is.

    Attributes:
        subject: by which it knows them for ever.
        name: for lists and the audit trail.
        roles: by their groups.
        id_token: for when they sign out.
    """

    subject: str
    name: str
    roles: tuple[str, ...]
    id_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metadata:
    authorization: str
    token: str
    keys: str
    user_info: str
    logout: str
    is_basic: bool
    came: float


#: As `ask_provider`.
Ask = Callable[..., tuple[int, bytes]]


class OpenIdProvider:
    """A provider, as this client asks it.

    Raises on construction:
        PolicyError: the CA or the secret cannot be used.
    """

    def __init__(
        self,
        rules: OpenIdRules,
        ask: Ask = ask_provider,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = rules
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._metadata: _Metadata | None = None
        self._tokens: tuple[str, TokenVerifier] | None = None
        try:
            self._context = ssl.create_default_context(cafile=rules.ca)
        except (OSError, ssl.SSLError) as error:
            raise PolicyError(f"{rules.ca}: cannot be used as CA of the provider") from error
        self._secret = _read_secret(rules.client_secret_file)

    def begin(self, attempt: Attempt, redirect_uri: str) -> str:
        """Where a browser is sent to sign in.

        Raises:
            ProviderUnavailableError: its metadata cannot be had.
        """
        challenge = hashlib.sha256(attempt.verifier.encode("ascii")).digest()
        parameters = {
            "response_type": "code",
            "client_id": self.rules.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.rules.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return _with_query(self._current().authorization, parameters)

    def examine(self) -> str:
        """What it offers, in one line: its metadata and keys are asked for.

        Raises:
            ProviderUnavailableError: it cannot be used; the message says why.
        """
        metadata = self._current()
        try:
            keys = len(self._verifier(metadata.keys).keys.current())
        except KeysUnavailableError as error:
            raise ProviderUnavailableError(f"{error}, from {metadata.keys}") from error
        logout = "signs people out, too" if metadata.logout else "signs nobody out"
        return f"{self.rules.issuer}: {keys} keys; {logout}"

    def finish(self, code: str, attempt: Attempt, redirect_uri: str) -> Person:
        """Who has signed in.

        Raises:
            ProviderUnavailableError: it cannot be asked.
            PolicyError: its answer is not believed; the message says why.
        """
        metadata = self._current()
        answer = self._exchange(metadata, code, attempt, redirect_uri)
        id_token = answer.get("id_token")
        if not isinstance(id_token, str):
            raise PolicyError("the provider gave no ID token; is openid among the scopes?")
        claims = self._claims(metadata, id_token, attempt.nonce)
        names = _at(claims, self.rules.groups_claim)
        if names is None and metadata.user_info:
            claims |= self._user_info(metadata, answer.get("access_token"), claims["sub"])
            names = _at(claims, self.rules.groups_claim)
        groups = _texts(names)
        roles = [role for group in groups for role in self.rules.roles.get(group, ())]
        return Person(
            subject=claims["sub"],
            name=self._name(claims),
            roles=tuple(dict.fromkeys(roles)),
            id_token=id_token,
        )

    def logout(self, id_token: str, after: str) -> str:
        """Where a browser is sent to sign out there, too; empty: the provider offers that not.

        Args:
            after: the address of ours to come back to.
        """
        try:
            metadata = self._current()
        except ProviderUnavailableError as error:
            log.warning("nobody can be signed out at the provider: %s", error)
            return ""
        if not metadata.logout:
            return ""
        parameters = {
            "id_token_hint": id_token,
            "client_id": self.rules.client_id,
            "post_logout_redirect_uri": after,
        }
        return _with_query(metadata.logout, parameters)

    def _name(self, claims: Mapping[str, Any]) -> str:
        for claim in (self.rules.name_claim, "email", "sub"):
            said = claims.get(claim)
            if isinstance(said, str) and said.strip() and said.isprintable():
                host = urlsplit(self.rules.issuer).hostname
                return f"{said.strip()[:_MOST_NAME]} ({host})"
        raise PolicyError("the provider names nobody")

    def _current(self) -> _Metadata:
        with self._lock:
            known = self._metadata
            if known is not None and self._clock() - known.came < _FRESH_SECONDS:
                return known
            try:
                self._metadata = self._discovered()
            except ProviderUnavailableError as error:
                if known is None:
                    raise
                log.warning("%s; what is known of it is used on", error)
                return known
            return self._metadata

    def _discovered(self) -> _Metadata:
        issuer = self.rules.issuer
        said = self._json(issuer.rstrip("/") + _WELL_KNOWN, "its metadata")
        if said.get("issuer") != issuer:
            raise ProviderUnavailableError(
                f"the provider calls itself {said.get('issuer')!r}, and oidc.issuer says {issuer!r}"
            )
        methods = said.get("code_challenge_methods_supported")
        if isinstance(methods, list) and "S256" not in methods:
            raise ProviderUnavailableError("the provider offers no PKCE with S256")
        ways = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return _Metadata(
            authorization=_endpoint(said, "authorization_endpoint", issuer),
            token=_endpoint(said, "token_endpoint", issuer),
            keys=_endpoint(said, "jwks_uri", issuer),
            user_info=_endpoint(said, "userinfo_endpoint", issuer, is_needed=False),
            logout=_endpoint(said, "end_session_endpoint", issuer, is_needed=False),
            is_basic=not isinstance(ways, list) or "client_secret_basic" in ways,
            came=self._clock(),
        )

    def _exchange(
        self, metadata: _Metadata, code: str, attempt: Attempt, redirect_uri: str
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        headers: dict[str, str] = {}
        if self._secret and metadata.is_basic:
            pair = f"{quote(self.rules.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form["client_id"] = self.rules.client_id
            if self._secret:
                form["client_secret"] = self._secret
        return self._json(metadata.token, "a token", form=form, headers=headers)

    def _claims(self, metadata: _Metadata, id_token: str, nonce: str) -> dict[str, Any]:
        try:
            claims = self._verifier(metadata.keys).claims(id_token.encode("latin-1", "replace"))
        except KeysUnavailableError as error:
            raise ProviderUnavailableError(str(error)) from error
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise PolicyError("the ID token names nobody (sub)")
        said = claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise PolicyError("the ID token is for another sign-in (nonce)")
        audience, party = claims.get("aud"), claims.get("azp")
        is_of_several = isinstance(audience, list) and len(audience) > 1
        if (party is not None or is_of_several) and party != self.rules.client_id:
            raise PolicyError("the ID token is for another client (azp)")
        return claims

    def _verifier(self, keys: str) -> TokenVerifier:
        with self._lock:
            if self._tokens is None or self._tokens[0] != keys:
                rules, source = self.rules, KeysUrl(url=keys, ca=self.rules.ca)
                found = TokenVerifier(
                    TokenRules(
                        keys=source,
                        issuer=rules.issuer,
                        audience=rules.client_id,
                        algorithms=rules.algorithms,
                        clock_skew=rules.clock_skew,
                    )
                )
                found.keys = UrlKeys(source, partial(self._fetched, keys), self._clock)
                self._tokens = (keys, found)
            return self._tokens[1]

    def _fetched(self, url: str) -> bytes:
        status, content = self._ask(url, self._context)
        if status != 200:
            raise OSError(f"HTTP {status} in place of keys")
        return content

    def _user_info(self, metadata: _Metadata, token: Any, subject: str) -> dict[str, Any]:
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            return {}
        headers = {"authorization": f"Bearer {token}"}
        said = self._json(metadata.user_info, "who it is", headers=headers)
        if said.get("sub") != subject:
            raise PolicyError("the provider speaks of two people at once (sub)")
        return said

    def _json(
        self,
        url: str,
        what: str,
        *,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        try:
            status, body = self._ask(url, self._context, form=form, headers=headers)
        except OSError as error:
            raise ProviderUnavailableError(
                f"the provider was asked for {what}: {text_of(error) or error}"
            ) from error
        try:
            said = orjson.loads(body)
        except ValueError:
            said = None
        if status == 200 and isinstance(said, dict):
            return said
        code = said.get("error") if isinstance(said, dict) else None
        if form is not None and status in (400, 401) and isinstance(code, str):
            raise PolicyError(f"the provider refused the code: {_word(code)}")
        raise ProviderUnavailableError(f"the provider was asked for {what}: HTTP {status}")


def _endpoint(said: Mapping[str, Any], name: str, issuer: str, *, is_needed: bool = True) -> str:
    url = said.get(name)
    if url is None and not is_needed:
        return ""
    if not isinstance(url, str) or not is_provider_url(url):
        raise ProviderUnavailableError(f"the provider says no https address for {name}")
    if urlsplit(url).scheme != urlsplit(issuer).scheme:
        raise ProviderUnavailableError(f"{name} of the provider is in the clear")
    return url


def is_provider_url(text: str) -> bool:
    """Whether a provider may be asked there: over TLS, or on this machine."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    is_safe = parts.scheme == "https" or (
        parts.scheme == "http" and (host == "localhost" or is_loopback(host))
    )
    is_plain = text.isascii() and text.isprintable() and " " not in text and not parts.fragment
    return is_safe and bool(host) and is_plain and parts.username is None and port != 0


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(parameters)}"


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or within others; None: it is not there."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def _texts(value: Any) -> Sequence[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    return [one for one in value[:_MOST_GROUPS] if isinstance(one, str)]


def _word(code: str) -> str:
    """A code of an error, which somebody else has written."""
    return "".join(letter for letter in code if letter.isalnum() or letter in "_-")[:64]


def _read_secret(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return file.read(_MOST_SECRET).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        why = text_of(error) if isinstance(error, OSError) else "is no text"
        raise PolicyError(f"{path}: {why}; set oidc.client_secret_file") from error
