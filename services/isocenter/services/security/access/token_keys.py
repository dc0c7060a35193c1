"""Public keys of a tokens' issuer, from a file or fetched by URL."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.provider_requests import ask_provider

if TYPE_CHECKING:
    from joserfc.jwk import Key

log = logging.getLogger("isocenter.access")

#: A set of some keys with their certificates has tens of kilobytes.
_MOST_BYTES: Final = 1 << 20
_KEY_TYPES: Final = frozenset({"RSA", "EC", "OKP"})
#: Keys of one issuer; more are no set of keys.
_MOST_KEYS: Final = 100
#: After so long the keys are asked for again, and used meanwhile.
_FRESH_SECONDS: Final = 3_600.0
#: Between two questions: tokens with invented key IDs make no load on the issuer.
_LEAST_SECONDS: Final = 60.0
#: Without an answer the keys that are known are used for so long.
_LONGEST_SECONDS: Final = 86_400.0


class KeysUnavailableError(PolicyError):
    """There are no keys now: no token can be judged, which is nobody's fault who shows one."""

    error_code = ErrorCode.IDENTITY_PROVIDER


class TokenKeys(Protocol):
    """Where keys come from.  Calls may block, and come from any thread."""

    def current(self) -> Sequence[Key]:
        """The keys.

        Raises:
            KeysUnavailableError: there are none now.
        """
        ...

    def after_unknown(self, known: Sequence[Key]) -> Sequence[Key]:
        """The keys, asked for anew if that may be: a token names one that is not among *known*."""
        ...

    def is_in_use(self, known: Sequence[Key]) -> bool:
        """Whether what was verified by *known* needs no other look."""
        ...


class FileKeys:
    """The keys of a file, as they were when it was made.

    Raises on construction:
        PolicyError: they cannot be used.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES)
        except OSError as error:
            raise PolicyError(
                f"{path}: {text_of(error)}; set identity.jwt_keys to the issuer's public keys"
            ) from error
        try:
            if content.lstrip().startswith(b"{"):
                self._keys = _keys_of_set(content, is_strict=True)
            else:
                self._keys = [_pem_key(content)]
        except PolicyError as error:
            raise PolicyError(f"{path}: {error}") from error
        except ValueError as error:
            raise PolicyError(
                f"{path}: holds no public keys; give a JWK set, or a public key in PEM"
            ) from error

    def current(self) -> Sequence[Key]:
        return self._keys

    def after_unknown(self, known: Sequence[Key]) -> Sequence[Key]:
        return self._keys

    def is_in_use(self, known: Sequence[Key]) -> bool:
        return known is self._keys


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysUrl:
    """Where an issuer shows its keys.

    Attributes:
        url: begins with ``https://``.
        ca: file of the CAs by which its certificate is verified; None: those of the system.
    """

    url: str
    ca: Path | None = None


class UrlKeys:
    """The keys that an issuer shows at a URL: kept, asked for anew when they are old or when a
    token names another, and used on while there is no answer.

    Args:
        fetch: what is at the URL, within its bounds; raises OSError or ValueError.
        clock: seconds that never go back.

    Raises on construction:
        PolicyError: the CA cannot be used.
    """

    def __init__(
        self,
        source: KeysUrl,
        fetch: Callable[[], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.source = source
        self._fetch = fetch or _fetcher(source)
        self._clock = clock
        self._one_at_a_time = threading.Lock()
        self._keys: Sequence[Key] = ()
        #: When they came, and when they were last asked for.
        self._came = -_LONGEST_SECONDS
        self._asked = -_LEAST_SECONDS
        self._is_wanted_anew = False

    def ask_anew(self) -> None:
        """Have the keys asked for before the next token is judged."""
        self._is_wanted_anew = True

    def current(self) -> Sequence[Key]:
        # Only one waits for the answer, as long as there are keys to use.
        if self._is_old and self._one_at_a_time.acquire(blocking=not self._keys):
            try:
                if self._is_old:
                    self._ask()
            finally:
                self._one_at_a_time.release()
        if not self._keys or self._clock() - self._came > _LONGEST_SECONDS:
            raise KeysUnavailableError("the keys of the tokens' issuer cannot be had")
        return self._keys

    def after_unknown(self, known: Sequence[Key]) -> Sequence[Key]:
        with self._one_at_a_time:
            if known is self._keys and self._may_ask:
                self._ask()
        return self._keys

    def is_in_use(self, known: Sequence[Key]) -> bool:
        return known is self._keys and not self._is_old

    @property
    def _is_old(self) -> bool:
        is_old = self._is_wanted_anew or self._clock() - self._came >= _FRESH_SECONDS
        return is_old and self._may_ask

    @property
    def _may_ask(self) -> bool:
        return self._is_wanted_anew or self._clock() - self._asked >= _LEAST_SECONDS

    def _ask(self) -> None:
        self._asked, self._is_wanted_anew = self._clock(), False
        try:
            keys = _keys_of_set(self._fetch(), is_strict=False)
        except (OSError, ValueError) as error:
            log.warning("keys of the tokens' issuer: %s: %s", self.source.url, error)
            return
        if [key.as_dict() for key in keys] != [key.as_dict() for key in self._keys]:
            self._keys = keys
            log.info("keys of the tokens' issuer: %d in use", len(keys))
        self._came = self._clock()


def _fetcher(source: KeysUrl) -> Callable[[], bytes]:
    try:
        context = ssl.create_default_context(cafile=source.ca)
    except (OSError, ssl.SSLError) as error:
        raise PolicyError(f"{source.ca}: cannot be used as CA of the tokens' issuer") from error
    return lambda: fetch_keys(source.url, context)


def fetch_keys(
    url: str, context: ssl.SSLContext, clock: Callable[[], float] = time.monotonic
) -> bytes:
    """What is at *url*, within the bounds.

    Raises:
        OSError: it cannot be had; the message says why.
    """
    headers = {"accept": "application/jwk-set+json, application/json"}
    status, content = ask_provider(url, context, headers=headers, clock=clock)
    if status != 200:
        raise OSError(f"HTTP {status} in place of keys")
    return content


def _keys_of_set(content: bytes, *, is_strict: bool) -> list[Key]:
    """The keys of a JWK set (RFC 7517).

    Args:
        is_strict: all must be understood; otherwise those that are not count for nothing.

    Raises:
        ValueError: there are none.
        PolicyError: joserfc is not installed.
    """
    try:
        from joserfc.errors import JoseError
        from joserfc.jwk import JWKRegistry
    except ImportError as error:
        raise _needs_joserfc() from error
    import orjson

    listed = orjson.loads(content)
    entries = listed.get("keys") if isinstance(listed, dict) else None
    if not isinstance(entries, list) or not 0 < len(entries) <= _MOST_KEYS:
        raise ValueError("it is no set of keys")
    keys: list[Key] = []
    for entry in entries:
        kind = entry.get("kty") if isinstance(entry, dict) else None
        if kind not in _KEY_TYPES and not is_strict:
            continue
        if kind == "oct":
            raise PolicyError("holds a shared secret; tokens are verified by public keys only")
        try:
            key = JWKRegistry.import_key(entry)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            if is_strict:
                raise ValueError("a key cannot be used") from error
            continue
        if is_strict or entry.get("use", "sig") == "sig":
            keys.append(key)
    if not keys:
        raise ValueError("it holds no public key for signatures")
    return keys


def _pem_key(content: bytes) -> Any:
    try:
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey, OKPKey, RSAKey
    except ImportError as error:
        raise _needs_joserfc() from error
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        match load_pem_public_key(content):
            case rsa.RSAPublicKey():
                return RSAKey.import_key(content)
            case ec.EllipticCurvePublicKey():
                return ECKey.import_key(content)
            case _:
                return OKPKey.import_key(content)
    except (JoseError, TypeError, KeyError) as error:
        raise ValueError("the key cannot be used") from error


def _needs_joserfc() -> PolicyError:
    return PolicyError("tokens need joserfc; install it with pip install 'isocenter[identity]'")
