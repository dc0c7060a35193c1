"""Certificate authority: certificates that bind AE titles to keys.

What it issues is what PS3.15 B.12 wants to see: keys of elliptic curves or RSA, signatures
with SHA-2, the extensions of RFC 5280, and the extended key usages of both sides,
since an application entity is now requestor and now acceptor.  The common name is the
AE title.

One directory holds all of it: ``ca.crt`` and ``ca.key``, ``issued.json`` (what was issued,
to whom, and what was revoked) and ``crl.pem``.  The record is written before a certificate
leaves, so that everything that exists can be revoked; the list of revoked ones is made
from the record.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.net.tls.contexts import check_private
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.security.certificates.issued import (
    RENEW_WITHIN,
    CertificateError,
    Issued,
    read_record,
    unusable,
    write_record,
)
from isocenter.services.security.certificates.keys import (
    DEFAULT_KEY,
    KeyKind,
    Pkcs12,
    PrivateKey,
    PublicKey,
    check_passphrase,
    generate,
    open_pkcs12,
    pkcs12_of,
)
from isocenter.services.security.certificates.names import check_names, similar_name
from isocenter.services.security.certificates.profile import (
    alternative_names,
    build_ca,
    build_crl,
    build_leaf,
    key_pem,
    names_in,
)
from isocenter.services.security.certificates.signing_requests import Request
from isocenter.services.system.file_lock import directory_lock
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    make_private_directory,
    sync_directory,
    write_file,
)

_CA_CERTIFICATE: Final = "ca.crt"
_CA_KEY: Final = "ca.key"
_CRL: Final = "crl.pem"
_ISSUED_FOLDER: Final = "issued"
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be signed, and where it is written."""

    name: str
    common_name: str
    names: Sequence[x509.GeneralName]
    folder: Path


class CertificateAuthority:
    """The private CA in one directory.  Every method reads what is there now."""

    def __init__(self, directory: Path) -> None:
        """Open the CA in *directory*.

        Raises:
            CertificateError: there is none, or its files cannot be used.
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
                (directory / _CA_CERTIFICATE).read_bytes()
            )
        except TlsFileError as error:
            if not (directory / _CA_KEY).exists() and not (directory / _CA_CERTIFICATE).exists():
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
            raise unusable(directory / _CA_CERTIFICATE, error) from error

    @classmethod
    def create(
        cls, directory: Path, *, key_kind: KeyKind = DEFAULT_KEY, now: datetime | None = None
    ) -> CertificateAuthority:
        """Make a new CA: all of its files at once, or none.

        Raises:
            CertificateError: *directory* holds something, or cannot be written.
        """
        now = now or datetime.now(UTC)
        key = generate(key_kind)
        certificate = build_ca(key, now)
        try:
            make_private_directory(directory.parent)
            staged = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
        except OSError as error:
            raise unusable(directory.parent, error) from error
        try:
            write_file(staged / _CA_KEY, key_pem(key), PRIVATE_FILE, replace=False)
            pem = certificate.public_bytes(serialization.Encoding.PEM)
            write_file(staged / _CA_CERTIFICATE, pem, PUBLIC_FILE, replace=False)
            authority = cls(staged)
            write_record(staged, [])
            authority._write_crl([], now)
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
        return cls(directory)

    @property
    def certificate_path(self) -> Path:
        """What peers have to trust."""
        return self.directory / _CA_CERTIFICATE

    @property
    def crl_path(self) -> Path:
        """The certificates that were revoked."""
        return self.directory / _CRL

    def issued(self) -> tuple[Issued, ...]:
        """Everything that was ever issued, oldest first."""
        return tuple(read_record(self.directory))

    def issue(
        self,
        name: str,
        *,
        ae_title: str | None = None,
        hosts: Iterable[str] = (),
        folder: Path | None = None,
        key_kind: KeyKind = DEFAULT_KEY,
        passphrase: bytes | None = None,
        pkcs12: Pkcs12 = Pkcs12.AES,
        now: datetime | None = None,
    ) -> Issued:
        """Sign a new key, and write ``NAME.crt``, ``NAME.key`` and ``ca.crt``.

        Args:
            ae_title: the common name; None: *name*.
            hosts: names and addresses that the holder may be reached by, for peers
                that compare them.
            folder: where to; None: ``issued/NAME`` beside the CA.
            passphrase: write ``NAME.p12`` with it in the place of ``NAME.key``.

        Raises:
            CertificateError: a name that cannot be, that has a valid certificate already,
                or whose files are there; nothing is overwritten.
        """
        if passphrase is not None:
            check_passphrase(passphrase)
        key = generate(key_kind)
        plan = self._plan(name, ae_title, hosts, folder)
        ends = (".crt", ".key" if passphrase is None else ".p12")

        def write(issued: Issued) -> None:
            certificate = x509.load_pem_x509_certificate(issued.pem.encode())
            content = (
                key_pem(key)
                if passphrase is None
                else pkcs12_of(name, key, certificate, self.certificate, passphrase, pkcs12)
            )
            write_file(issued.folder / f"{name}{ends[1]}", content, PRIVATE_FILE, replace=False)

        return self._issue(plan, key.public_key(), ends, write, now)

    def sign(
        self,
        request: Request,
        name: str,
        *,
        ae_title: str | None = None,
        hosts: Iterable[str] = (),
        folder: Path | None = None,
        now: datetime | None = None,
    ) -> Issued:
        """Sign the key of a request, and write ``NAME.crt`` and ``ca.crt``.

        Args:
            ae_title: the common name; None: that of the request.
            hosts: as of `issue`; names that only the request wants are left out.

        Raises:
            CertificateError: as of `issue`, or the key was signed before.
        """
        if ae_title is None and not is_ae_title(request.common_name):
            raise CertificateError(
                f"the request is for {request.common_name!r}, which is not an AE title (1 to 16 "
                "characters, no backslash); give the one that its sender will use with "
                "--ae-title AET"
            )
        plan = self._plan(name, ae_title or request.common_name, hosts, folder)
        return self._issue(plan, request.public_key, (".crt",), lambda issued: None, now)

    def _plan(
        self, name: str, ae_title: str | None, hosts: Iterable[str], folder: Path | None
    ) -> _Plan:
        common_name = name if ae_title is None else ae_title.strip(" ")
        check_names(name, common_name)
        folder = (folder or self.directory / _ISSUED_FOLDER / name).absolute()
        try:
            names = alternative_names(hosts)
        except ValueError as error:
            raise CertificateError(str(error)) from error
        return _Plan(name, common_name, names, folder)

    def _issue(
        self,
        plan: _Plan,
        public_key: PublicKey,
        ends: Sequence[str],
        write: Callable[[Issued], None],
        now: datetime | None,
    ) -> Issued:
        """Record, then write: what *write* does, and the certificate."""
        now = now or datetime.now(UTC)
        name, folder = plan.name, plan.folder
        with self.locked():
            record = read_record(self.directory)
            if any(one.name == name and one.state(now) == "valid" for one in record):
                raise CertificateError(
                    f"{name} has a valid certificate; renew it (isocenter certs renew {name}), "
                    f"or revoke it first (isocenter certs revoke {name})"
                )
            self._refuse_known_key(record, public_key)
            try:
                make_private_directory(folder)
                self._refuse_to_overwrite(*(folder / f"{name}{end}" for end in ends))
                self._put_ca_certificate(folder)
                issued = self.sign_key(name, plan.common_name, plan.names, public_key, folder, now)
                write_record(self.directory, [*record, issued])
                write(issued)
                path = folder / f"{name}.crt"
                write_file(path, issued.pem.encode(), PUBLIC_FILE, replace=False)
            except OSError as error:
                raise unusable(folder, error) from error
        return issued

    @staticmethod
    def _refuse_known_key(record: Sequence[Issued], public_key: PublicKey) -> None:
        """One key, one holder; and what was revoked may have been stolen."""
        for one in record:
            if x509.load_pem_x509_certificate(one.pem.encode()).public_key() == public_key:
                raise CertificateError(
                    f"the key was signed before, for {one.name} ({one.state()}); renew that one "
                    f"(isocenter certs renew {one.name}), or have the modality make another key"
                )

    def revoke(self, name: str, *, now: datetime | None = None) -> tuple[Issued, ...]:
        """Revoke every certificate of *name* that is still valid, and publish the list.

        Raises:
            CertificateError: there is none.
        """
        now = now or datetime.now(UTC)
        with self.locked():
            record = read_record(self.directory)
            ended = [one for one in record if one.name == name and one.state(now) == "valid"]
            if not ended:
                raise CertificateError(
                    f"{name} has no valid certificate; "
                    + (
                        similar_name(record, name, "revoke")
                        or "isocenter certs list shows them all"
                    )
                )
            revoked = {one.serial_number: replace(one, revoked_at=now) for one in ended}
            record = [revoked.get(one.serial_number, one) for one in record]
            write_record(self.directory, record)
            self._write_crl(record, now)
        return tuple(revoked.values())

    def renew(
        self,
        name: str | None = None,
        *,
        within: timedelta = RENEW_WITHIN,
        passphrase: bytes | None = None,
        pkcs12: Pkcs12 = Pkcs12.AES,
        now: datetime | None = None,
    ) -> tuple[Issued, ...]:
        """Sign the keys again whose certificates end within *within*, and replace their files.

        Args:
            name: only this one, and whenever it ends.
            passphrase: of ``NAME.p12``, which is written anew with the new certificate.

        The key stays, so that certificate and key fit together at any moment.  What was
        revoked stays so.  A certificate whose folder is gone is recorded there anew under
        ``issued/NAME``.

        Raises:
            CertificateError: no certificate of that name, or it was revoked.
        """
        now = now or datetime.now(UTC)
        renewed: list[Issued] = []
        with self.locked():
            record = read_record(self.directory)
            last = {one.name: one for one in record}
            if name is not None and (name not in last or last[name].revoked_at is not None):
                raise CertificateError(
                    f"{name} has no certificate that could be renewed; "
                    + (
                        similar_name(record, name, "renew")
                        or f"issue one (isocenter certs issue {name})"
                    )
                )
            for one in last.values():
                is_due = one.not_after - now <= within
                is_wanted = is_due if name is None else one.name == name
                if one.revoked_at is not None or not is_wanted:
                    continue
                old = x509.load_pem_x509_certificate(one.pem.encode())
                folder = one.folder
                if not folder.is_dir():
                    folder = self.directory / _ISSUED_FOLDER / one.name
                again = self.sign_key(
                    one.name, one.common_name, names_in(old), old.public_key(), folder, now
                )
                bundle = folder / f"{one.name}.p12"
                content = b""
                if passphrase is not None and bundle.exists():
                    certificate = x509.load_pem_x509_certificate(again.pem.encode())
                    content = pkcs12_of(
                        one.name,
                        open_pkcs12(bundle, passphrase),
                        certificate,
                        self.certificate,
                        passphrase,
                        pkcs12,
                    )
                try:
                    make_private_directory(folder)
                    record.append(again)
                    write_record(self.directory, record)
                    path = folder / f"{one.name}.crt"
                    write_file(path, again.pem.encode(), PUBLIC_FILE, replace=True)
                    if content:
                        write_file(bundle, content, PRIVATE_FILE, replace=True)
                except OSError as error:
                    raise unusable(folder, error) from error
                renewed.append(again)
            self._write_crl(record, now)
        return tuple(renewed)

    def refresh(self) -> None:
        """Publish the list of revoked certificates again if it is not what the record says."""
        with self.locked():
            record = read_record(self.directory)
            wanted = {one.serial_number for one in record if one.revoked_at is not None}
            try:
                crl = x509.load_pem_x509_crl(self.crl_path.read_bytes())
                is_current = crl.is_signature_valid(self.public_key()) and wanted == {
                    revoked.serial_number for revoked in crl
                }
            except (FileNotFoundError, ValueError):
                is_current = False
            if not is_current:
                self._write_crl(record, datetime.now(UTC))

    def public_key(self) -> PublicKey:
        """Of the CA itself."""
        key = self.certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise CertificateError(f"{self.certificate_path} is not a CA that isocenter has made")
        return key

    def _private_key(self) -> PrivateKey:
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

    def sign_key(
        self,
        name: str,
        common_name: str,
        names: Sequence[x509.GeneralName],
        public_key: CertificatePublicKeyTypes,
        folder: Path,
        now: datetime,
    ) -> Issued:
        if self.certificate.not_valid_after_utc <= now:
            raise CertificateError(
                f"the CA in {self.directory} has expired; make a new one with "
                "isocenter certs init --ca-dir DIR, and let the peers trust it"
            )
        certificate = build_leaf(
            self.certificate, self._private_key(), common_name, names, public_key, now
        )
        return Issued(
            name=name,
            common_name=common_name,
            serial_number=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            folder=folder,
            pem=certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes what is in the directory meanwhile."""
        with ExitStack() as stack:
            try:
                stack.enter_context(directory_lock(self.directory))
            except OSError as error:
                raise unusable(self.directory, error) from error
            yield

    def _refuse_to_overwrite(self, *paths: Path) -> None:
        for path in paths:
            if path.exists():
                raise CertificateError(
                    f"{path} is there already and is not overwritten; "
                    "move it away, or write elsewhere with --out DIR"
                )

    def _put_ca_certificate(self, folder: Path) -> None:
        """Lay our ``ca.crt`` beside what it signed; another one there is not ours to replace."""
        path = folder / _CA_CERTIFICATE
        content = self.certificate_path.read_bytes()
        if not path.exists():
            write_file(path, content, PUBLIC_FILE, replace=False)
        elif path.read_bytes() != content:
            self._refuse_to_overwrite(path)

    def _write_crl(self, record: Sequence[Issued], now: datetime) -> None:
        revoked = [
            (one.serial_number, one.revoked_at) for one in record if one.revoked_at is not None
        ]
        crl = build_crl(self.certificate, self._private_key(), revoked, now)
        try:
            write_file(
                self.crl_path,
                crl.public_bytes(serialization.Encoding.PEM),
                PUBLIC_FILE,
                replace=True,
            )
        except OSError as error:
            raise unusable(self.crl_path, error) from error


def ensure_ca(directory: Path) -> CertificateAuthority:
    """The CA in *directory*; a new one when there is none, its list of revoked ones current.

    Raises:
        CertificateError: there is something else, or it cannot be used or written.
    """
    if not directory.exists() or not any(directory.iterdir()):
        try:
            return CertificateAuthority.create(directory)
        except CertificateError:
            if not (directory / _CA_CERTIFICATE).exists():
                raise
            # Another process was first.
    authority = CertificateAuthority(directory)
    authority.refresh()
    return authority
