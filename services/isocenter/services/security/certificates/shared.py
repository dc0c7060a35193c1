"""Trust that all nodes of an archive share: CAs, and what they have revoked.

Each node names files of its own.  What the others have is kept beside, in the data directory, and
used in their place: of revocation lists the latest of each CA, of CAs those that somebody changed
last, on whichever node.  Files that the settings name are never written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from isocenter.services.errors import text_of
from isocenter.services.net.tls.certificates import (
    certificates_in,
    files_in,
    revocation_lists_in,
)
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.security.certificates.issued import AUTHORITIES, REVOCATIONS
from isocenter.services.system.private_files import PRIVATE_FILE, match_owner, write_file

_BEGIN: Final = "-----BEGIN X509 CRL-----"


class SharedRevocations:
    """Revocation lists; a `isocenter.services.cluster.sharing.SharedText`.

    Args:
        folder: the data directory.
        own: the list that this node has, or a folder of them; None: it has none.
    """

    name = REVOCATIONS
    is_joined = True

    def __init__(self, folder: Path, own: Path | None) -> None:
        self._own = own
        self._kept = folder / "shared-revocations.pem"
        #: Of the files as they were read, what they come to.
        self._known: tuple[object, str] = ((), "")

    def read(self) -> str:
        """See `SharedText.read`: the latest list of each CA, of here and of elsewhere."""
        paths = self._paths()
        states = tuple((path, _state(path)) for path in paths)
        if self._known[0] != states:
            self._known = states, _latest(_lists(paths))
        return self._known[1]

    def write(self, content: str, *, instead_of: str) -> bool:
        """See `SharedText.write`; later lists of here stay."""
        try:
            came = [
                x509.load_pem_x509_crl(f"{_BEGIN}{block}".encode())
                for block in content.split(_BEGIN)[1:]
            ]
        except ValueError as error:
            raise OSError("the revocation lists that nodes share cannot be read") from error
        self._keep(_latest([*came, *_lists(self._paths())]))
        return True

    def path(self) -> Path | None:
        """A file with all of them; None: there are none.

        Raises:
            OSError: it cannot be written, or a list cannot be read.
        """
        text = self.read()
        if text and (not self._kept.exists() or self._kept.read_text("ascii") != text):
            self._keep(text)
        return self._kept if text else None

    def _keep(self, text: str) -> None:
        _write(self._kept, text)

    def _paths(self) -> list[Path]:
        own = () if self._own is None or not self._own.exists() else files_in(self._own)
        return [path for path in (*own, self._kept) if path.is_file()]


class SharedAuthorities:
    """Certificates of the CAs that sign those of peers; a
    `isocenter.services.cluster.sharing.SharedText`.

    Args:
        folder: the data directory.
        own: the file that this node has; None: it has none.
    """

    name = AUTHORITIES
    is_joined = False

    def __init__(self, folder: Path, own: Path | None) -> None:
        self._own = own
        self._kept = folder / "shared-authorities.pem"
        #: What the own file was when what came took its place.
        self._replaced = folder / "shared-authorities.digest"

    def read(self) -> str:
        """See `SharedText.read`."""
        path = self.path()
        if path is None or not path.exists():
            return ""
        try:
            found = certificates_in(path)
        except TlsFileError as error:
            raise OSError(str(error)) from error
        return "".join(one.public_bytes(Encoding.PEM).decode("ascii") for one in found)

    def write(self, content: str, *, instead_of: str) -> bool:
        """See `SharedText.write`."""
        try:
            x509.load_pem_x509_certificates(content.encode())
        except ValueError as error:
            raise OSError("the CAs that nodes share cannot be read") from error
        if self.read() != instead_of:
            return False
        # In this order: should the second fail, what is here stays, and the next look brings it.
        _write(self._replaced, self._digest())
        _write(self._kept, content)
        return True

    def path(self) -> Path | None:
        """The file that is in use: the own one, unless what came from another node is newer."""
        if not self._kept.exists():
            return self._own
        try:
            replaced = self._replaced.read_text("ascii")
        except FileNotFoundError:
            replaced = ""
        return self._kept if self._digest() == replaced else self._own

    def _digest(self) -> str:
        if self._own is None or not self._own.exists():
            return ""
        return hashlib.sha256(self._own.read_bytes()).hexdigest()


def _write(path: Path, text: str) -> None:
    write_file(path, text.encode(), PRIVATE_FILE, replace=True)
    match_owner(path.parent, path)  # the server has to read it, whoever wrote


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _lists(paths: Iterable[Path]) -> list[x509.CertificateRevocationList]:
    try:
        return [one for path in paths for one in revocation_lists_in(path)]
    except TlsFileError as error:
        raise OSError(f"a revocation list cannot be used: {text_of(error)}") from error


def _latest(lists: Iterable[x509.CertificateRevocationList]) -> str:
    """The latest of each CA, and of each part, where it has several; always in the same order.

    Raises:
        OSError: one of them is not as such lists are.
    """
    found: dict[tuple[bytes, ...], x509.CertificateRevocationList] = {}
    for one in lists:
        try:
            key = (
                one.issuer.public_bytes(),
                _extension(one, x509.AuthorityKeyIdentifier),
                _extension(one, x509.IssuingDistributionPoint),
                _extension(one, x509.DeltaCRLIndicator),
            )
            is_later = key not in found or _age(found[key]) < _age(one)
        except (ValueError, x509.DuplicateExtension) as error:
            # They are looked at only now, not when the list is loaded.
            raise OSError("a revocation list has extensions that cannot be read") from error
        if is_later:
            found[key] = one
    pems = (found[key].public_bytes(Encoding.PEM).decode("ascii") for key in sorted(found))
    return "".join(pems)


def _age(one: x509.CertificateRevocationList) -> tuple[float, int]:
    try:
        number = one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = -1
    return one.last_update_utc.timestamp(), number


def _extension(one: x509.CertificateRevocationList, kind: type[x509.ExtensionType]) -> bytes:
    try:
        return one.extensions.get_extension_for_class(kind).value.public_bytes()
    except x509.ExtensionNotFound:
        return b""
