"""Expiry of certificates and revocation lists, and warnings before it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.net.tls.certificates import certificates_in, files_in, revocation_lists_in
from isocenter.services.net.tls.contexts import TlsFiles
from isocenter.services.security.certificates.issued import is_of_private_ca

if TYPE_CHECKING:
    from cryptography import x509

log = logging.getLogger("isocenter.tls")

#: A certificate that ends sooner is warned of: at the start, and once a day.
WARN_WITHIN: Final = timedelta(days=30)
_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Expiry:
    """When something ends.

    Attributes:
        what: ``certificate``, ``CA`` or ``revocation list``.
        name: common name of the subject, or of the issuer of a list.
    """

    what: str
    name: str
    path: Path
    ends: datetime

    def left(self, now: datetime | None = None) -> timedelta:
        """How long it is still valid; negative when it has ended."""
        return self.ends - (now or datetime.now(UTC))

    def warning(self, now: datetime | None = None) -> str:
        """What to tell of it now, with the cure; empty: nothing."""
        left = self.left(now)
        if left > WARN_WITHIN:
            return ""
        when = f"ends in {left.days} days" if left > timedelta(0) else "has ended"
        cure = {
            "certificate": renewal_of(self.path),
            "CA": "make a new one and let the peers trust it before",
            "revocation list": "put a new one in its place and reload (isocenter reload); "
            "without it every peer of this CA is refused",
        }[self.what]
        return (
            f"the {self.what} of {self.name!r} {when}, on {self.ends.date()} ({self.path}); {cure}"
        )


def renewal_of(path: Path) -> str:
    """What renews the certificate in *path*, by the name that it has at its CA."""
    if is_of_private_ca(path):
        return f"renew it (isocenter certs renew {path.stem}) and reload (isocenter reload)"
    return "have its CA sign it again, put it in its place and reload (isocenter reload)"


def expiries_of(files: TlsFiles) -> tuple[Expiry, ...]:
    """What *files* hold, in their order.

    Raises:
        TlsFileError: one of them cannot be read.
    """
    return tuple(_expiries(files))


def _expiries(files: TlsFiles) -> Iterator[Expiry]:
    for what, path in (("certificate", files.certificate), ("CA", files.ca)):
        if path is not None:
            for one in certificates_in(path):
                yield Expiry(what, _name(one.subject), path, one.not_valid_after_utc)
    if files.crl is not None:
        for path in files_in(files.crl):
            for crl in revocation_lists_in(path):
                if crl.next_update_utc is not None:
                    yield Expiry("revocation list", _name(crl.issuer), path, crl.next_update_utc)


def _name(name: x509.Name) -> str:
    from cryptography.x509 import NameOID

    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else name.rfc4514_string()


def warn(expiries: Iterable[Expiry], now: datetime | None = None) -> None:
    """Say in the log what ends soon."""
    for one in expiries:
        text = one.warning(now)
        if text:
            log.warning("%s", text)


async def warn_daily(expiries: Callable[[], Iterable[Expiry]]) -> None:
    """`warn` now and once a day, of whatever is in use then."""
    while True:
        warn(expiries())
        await trio.sleep(_DAY_SECONDS)


async def renew_daily(reload: Callable[[], None]) -> None:
    """*reload*, which signs again what ends soon, once a day from tomorrow on."""
    while True:
        await trio.sleep(_DAY_SECONDS)
        try:
            await trio.to_thread.run_sync(reload)
        except (IsocenterError, OSError) as error:
            log.error("the certificates in use stay: %s", error)
