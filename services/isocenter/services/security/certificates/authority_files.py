"""Files of a certificate authority: its certificate, key and revocation list."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from isocenter.services.errors import text_of
from isocenter.services.net.tls.contexts import check_private
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.security.certificates.issued import (
    CertificateError,
    Issued,
    unusable,
    write_record,
)
from isocenter.services.security.certificates.keys import KeyKind, PrivateKey, PublicKey, generate
from isocenter.services.security.certificates.profile import build_ca, build_crl, key_pem
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    make_private_directory,
    sync_directory,
    write_file,
)

CA_CERTIFICATE: Final = "ca.crt"
_CA_KEY: Final = "ca.key"
_CRL: Final = "crl.pem"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class AuthorityFiles:
    """The files of the CA in one directory, beside the record of what it has issued."""

    def __init__(self, directory: Path) -> None:
        """Open them.

        Raises:
            CertificateError: there are none, or they cannot be used.
        """
        self.directory = directory
        try:
            if (
                os.name == "posix"
                and directory.is_dir()
                and directory.stat().st_mode & _OTHERS_WRITE
            ):
                raise CertificateError(
                    f"others may write into {directory} and put a CA of theirs there; "
                    f"chmod 700 {directory}"
                )
            check_private(directory / _CA_KEY)
            self.certificate: Final = x509.load_pem_x509_certificate(
                (directory / CA_CERTIFICATE).read_bytes()
            )
        except TlsFileError as error:
            if not (directory / _CA_KEY).exists() and not (directory / CA_CERTIFICATE).exists():
                raise CertificateError(
                    f"no CA in {directory}; make one with isocenter certs init"
                ) from error
            if not (directory / _CA_KEY).exists():
                raise CertificateError(
                    f"the key of the CA in {directory} is missing; put it back as "
                    f"{directory / _CA_KEY} (isocenter restore --key-passphrase-file brings it, if "
                    "the backup has keys), or move the folder away to begin with a new CA, whom "
                    "no peer trusts yet"
                ) from error
            raise CertificateError(str(error)) from error
        except (OSError, ValueError) as error:
            raise unusable(directory / CA_CERTIFICATE, error) from error

    @classmethod
    def create(cls, directory: Path, key_kind: KeyKind, now: datetime) -> None:
        """Make a new CA: all of its files at once, or none.

        Raises:
            CertificateError: *directory* holds something, or cannot be written.
        """
        key = generate(key_kind)
        certificate = build_ca(key, now)
        try:
            make_private_directory(directory.parent)
            staged = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        except OSError as error:
            raise CertificateError(
                f"{directory} cannot be made: {text_of(error)}; let the user who runs isocenter "
                f"write in {directory.parent}, or choose another directory"
            ) from error
        try:
            write_file(staged / _CA_KEY, key_pem(key), PRIVATE_FILE, replace=False)
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            write_file(staged / CA_CERTIFICATE, pem, PUBLIC_FILE, replace=False)
            write_record(staged, [])
            cls(staged).write_crl([], now)
            if os.name != "posix" and directory.is_dir():
                directory.rmdir()
            staged.rename(directory)  # fails when there is something in it
            sync_directory(directory.parent)
        except OSError as error:
            if directory.exists():
                raise CertificateError(
                    f"{directory} holds something already; nothing was overwritten"
                ) from error
            raise unusable(directory, error) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)  # gone, once it has its name

    @property
    def certificate_path(self) -> Path:
        """What peers have to trust."""
        return self.directory / CA_CERTIFICATE

    @property
    def crl_path(self) -> Path:
        """The certificates that were revoked."""
        return self.directory / _CRL

    def public_key(self) -> PublicKey:
        """Of the CA itself."""
        key = self.certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise CertificateError(f"{self.certificate_path} is not a CA that isocenter has made")
        return key

    def private_key(self) -> PrivateKey:
        """Of the CA itself; read anew each time.

        Raises:
            CertificateError: it is missing, open to others, or another one's.
        """
        path = self.directory / _CA_KEY
        try:
            check_private(path)
            key = serialization.load_pem_private_key(path.read_bytes(), None)
        except TlsFileError as error:
            raise CertificateError(str(error)) from error
        except (OSError, ValueError, TypeError) as error:
            raise unusable(path, error) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise CertificateError(f"{path} is not a key that isocenter has made")
        if key.public_key() != self.certificate.public_key():
            raise CertificateError(f"{path} is not the key of {self.certificate_path}")
        return key

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes what is in the directory meanwhile."""
        with ExitStack() as stack:
            try:
                stack.enter_context(directory_lock(self.directory))
            except OSError as error:
                raise unusable(self.directory, error) from error
            yield

    def lay_certificate_in(self, folder: Path) -> None:
        """Lay our ``ca.crt`` beside what it signed; another one there is not ours to replace."""
        path = folder / CA_CERTIFICATE
        content = self.certificate_path.read_bytes()
        if not path.exists():
            write_file(path, content, PUBLIC_FILE, replace=False)
        elif path.read_bytes() != content:
            refuse_to_overwrite(path)

    def write_crl(self, record: Sequence[Issued], now: datetime) -> None:
        """Publish the list of those of *record* that were revoked."""
        revoked = [
            (one.serial_number, one.revoked_at) for one in record if one.revoked_at is not None
        ]
        crl = build_crl(self.certificate, self.private_key(), revoked, now)
        try:
            write_file(
                self.crl_path,
                crl.public_bytes(serialization.Encoding.PEM),
                PUBLIC_FILE,
                replace=True,
            )
        except OSError as error:
            raise unusable(self.crl_path, error) from error


def refuse_to_overwrite(*paths: Path) -> None:
    """See that none of them is there.

    Raises:
        CertificateError: one is.
    """
    for path in paths:
        if path.exists():
            raise CertificateError(
                f"{path} is there already and is not overwritten; "
                "move it away, or write elsewhere with --out DIR"
            )
