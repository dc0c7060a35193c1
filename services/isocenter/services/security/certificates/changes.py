"""Certificates of the private CA as operations, told with who asked for them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices import Caller, Notices, WingNotice
from isocenter.services.security.certificates.issued import CertificateError, Issued, unusable

if TYPE_CHECKING:
    from isocenter.services.security.certificates.authority import CertificateAuthority

#: Folders of one name: whoever issues more has to clean up.
_MOST_FOLDERS: Final = 1_000
_PRIVATE_ENDS: Final = (".key", ".p12")


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateChanged(WingNotice):
    """Somebody had a certificate made, or revoked one.

    Attributes:
        what: in words.
    """

    caller: Caller
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """What the CA is, and has issued.

    Attributes:
        ends: when the certificate of the CA itself does.
        issued: the oldest first.
    """

    ends: datetime
    issued: Sequence[Issued]


class CertificateChanges:
    """Issues, signs and revokes certificates while a server runs, and tells who did.

    Args:
        folder: of the CA.
        reload: has all that serves take revocations into account.
    """

    def __init__(
        self, folder: Path, notices: Notices, reload: Callable[[], Awaitable[None]]
    ) -> None:
        self._folder = folder
        self._notices = notices
        self._reload = reload

    async def record(self) -> CertificateRecord:
        """What there is.

        Raises:
            CertificateError: there is no CA, or it cannot be read.
        """
        return await trio.to_thread.run_sync(self._record)

    async def ca_certificate(self) -> bytes:
        """What peers have to trust, as PEM.

        Raises:
            CertificateError: there is no CA, or it cannot be read.
        """
        return await trio.to_thread.run_sync(lambda: _read(self._authority().certificate_path))

    async def revocation_list(self) -> bytes:
        """The certificates that were revoked, as PEM.

        Raises:
            CertificateError: there is no CA, or it cannot be read.
        """
        return await trio.to_thread.run_sync(lambda: _read(self._authority().crl_path))

    async def issue(
        self, name: str, ae_title: str, hosts: Sequence[str], passphrase: str, caller: Caller
    ) -> bytes:
        """Make a key and a certificate; both with that of the CA as a ZIP file.  The key is in
        there only: nothing of it is kept.

        Args:
            ae_title: empty: *name*.
            passphrase: of a PKCS #12 file in the place of a key in the clear; empty: none.

        Raises:
            CertificateError: it cannot be made so, in words.
        """
        make = partial(self._issue, name, ae_title, hosts, passphrase)
        issued, content = await trio.to_thread.run_sync(make)
        self._tell(caller, f"certificate {issued.name} issued for AE title {issued.common_name}")
        return content

    async def sign(
        self, request: bytes, name: str, ae_title: str, hosts: Sequence[str], caller: Caller
    ) -> bytes:
        """Sign the key of a request (PKCS #10); the certificate with that of the CA as a ZIP file.

        Args:
            ae_title: empty: that of the request.

        Raises:
            CertificateError: it is none, or cannot be signed so, in words.
        """
        make = partial(self._sign, request, name, ae_title, hosts)
        issued, content = await trio.to_thread.run_sync(make)
        self._tell(caller, f"certificate {issued.name} signed for AE title {issued.common_name}")
        return content

    async def revoke(self, name: str, caller: Caller) -> None:
        """Revoke the certificates of a name; the server refuses them from now on.

        Raises:
            CertificateError: there is none, or it cannot be written.
        """
        await trio.to_thread.run_sync(lambda: self._authority().revoke(name))
        self._tell(caller, f"certificate {name} revoked")
        await self._reload()

    def _authority(self) -> CertificateAuthority:
        # Late: all of X.509, which a server that nobody asks does not need.
        from isocenter.services.security.certificates.authority import CertificateAuthority

        return CertificateAuthority(self._folder)

    def _record(self) -> CertificateRecord:
        authority = self._authority()
        return CertificateRecord(
            ends=authority.certificate.not_valid_after_utc, issued=authority.issued()
        )

    def _issue(
        self, name: str, ae_title: str, hosts: Sequence[str], passphrase: str
    ) -> tuple[Issued, bytes]:
        folder = self._free_folder(name)
        try:
            issued = self._authority().issue(
                name,
                ae_title=ae_title or None,
                hosts=hosts,
                folder=folder,
                passphrase=passphrase.encode() or None,
            )
            return issued, _bundle(folder)
        finally:
            for end in _PRIVATE_ENDS:
                (folder / f"{name}{end}").unlink(missing_ok=True)

    def _sign(
        self, request: bytes, name: str, ae_title: str, hosts: Sequence[str]
    ) -> tuple[Issued, bytes]:
        from isocenter.services.security.certificates.signing_requests import request_in

        folder = self._free_folder(name)
        issued = self._authority().sign(
            request_in(request, "the request"),
            name,
            ae_title=ae_title or None,
            hosts=hosts,
            folder=folder,
        )
        return issued, _bundle(folder)

    def _free_folder(self, name: str) -> Path:
        """Where nothing lies of an earlier certificate of that name."""
        from isocenter.services.security.certificates.names import check_names

        check_names(name, "ANY")
        for number in range(1, _MOST_FOLDERS):
            folder = self._folder / "issued" / (name if number == 1 else f"{name}-{number}")
            if not folder.exists():
                return folder
        raise CertificateError(f"there are too many certificates called {name}; remove old ones")

    def _tell(self, caller: Caller, what: str) -> None:
        self._notices.publish(CertificateChanged(caller=caller, what=what))


def _bundle(folder: Path) -> bytes:
    """All files of a folder, as a ZIP file."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(path.name, _read(path))
    return made.getvalue()


def _read(path: Path) -> bytes:
    """Raises:
    CertificateError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unusable(path, error) from error
