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

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from isocenter.engine.ae import is_ae_title
from isocenter.engine.fast_init import dataclass
from isocenter.services.security.certificates.authority_files import (
    CA_CERTIFICATE,
    AuthorityFiles,
    refuse_to_overwrite,
)
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
    PublicKey,
    check_passphrase,
    generate,
    open_pkcs12,
    pkcs12_of,
)
from isocenter.services.security.certificates.names import check_names, similar_name
from isocenter.services.security.certificates.profile import (
    LIFETIME,
    alternative_names,
    build_leaf,
    key_pem,
    names_in,
)
from isocenter.services.security.certificates.signing_requests import Request
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    make_private_directory,
    write_file,
)

_DAY: Final = timedelta(days=1)
_ISSUED_FOLDER: Final = "issued"


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be signed, and where it is written."""

    name: str
    common_name: str
    names: Sequence[x509.GeneralName]
    folder: Path
    lifetime: timedelta


class CertificateAuthority:
    """The private CA in one directory.  Every method reads what is there now."""

    def __init__(self, directory: Path) -> None:
        """Open the CA in *directory*.

        Raises:
            CertificateError: there is none, or its files cannot be used.
        """
        self.directory = directory
        self._files = AuthorityFiles(directory)
        self.certificate: Final = self._files.certificate

    @classmethod
    def create(
        cls, directory: Path, *, key_kind: KeyKind = DEFAULT_KEY, now: datetime | None = None
    ) -> CertificateAuthority:
        """Make a new CA: all of its files at once, or none.

        Raises:
            CertificateError: *directory* holds something, or cannot be written.
        """
        AuthorityFiles.create(directory, key_kind, now or datetime.now(UTC))
        return cls(directory)

    @property
    def certificate_path(self) -> Path:
        """What peers have to trust."""
        return self._files.certificate_path

    @property
    def crl_path(self) -> Path:
        """The certificates that were revoked."""
        return self._files.crl_path

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else changes what is in the directory meanwhile."""
        return self._files.locked()

    def public_key(self) -> PublicKey:
        """Of the CA itself."""
        return self._files.public_key()

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
        lifetime: timedelta = LIFETIME,
        now: datetime | None = None,
    ) -> Issued:
        """Sign a new key, and write ``NAME.crt``, ``NAME.key`` and ``ca.crt``.

        Args:
            ae_title: the common name; None: *name*.
            hosts: names and addresses that the holder may be reached by, for peers
                that compare them.
            folder: where to; None: ``issued/NAME`` beside the CA.
            passphrase: write ``NAME.p12`` with it in the place of ``NAME.key``.
            lifetime: of the certificate; it never outlives the CA.

        Raises:
            CertificateError: a name that cannot be, that has a valid certificate already,
                or whose files are there; nothing is overwritten.
        """
        if passphrase is not None:
            check_passphrase(passphrase)
        key = generate(key_kind)
        plan = self._plan(name, ae_title, hosts, folder, lifetime)
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
        lifetime: timedelta = LIFETIME,
        now: datetime | None = None,
    ) -> Issued:
        """Sign the key of a request, and write ``NAME.crt`` and ``ca.crt``.

        Args:
            ae_title: the common name; None: that of the request.
            hosts, lifetime: as of `issue`; names that only the request wants are left out.

        Raises:
            CertificateError: as of `issue`, or the key was signed before.
        """
        if ae_title is None and not is_ae_title(request.common_name):
            raise CertificateError(
                f"the request is for {request.common_name!r}, which is not an AE title (1 to 16 "
                "characters, no backslash); give the one that its sender will use with "
                "--ae-title AET"
            )
        plan = self._plan(name, ae_title or request.common_name, hosts, folder, lifetime)
        return self._issue(plan, request.public_key, (".crt",), lambda issued: None, now)

    def _plan(
        self,
        name: str,
        ae_title: str | None,
        hosts: Iterable[str],
        folder: Path | None,
        lifetime: timedelta,
    ) -> _Plan:
        common_name = name if ae_title is None else ae_title.strip(" ")
        check_names(name, common_name)
        folder = (folder or self.directory / _ISSUED_FOLDER / name).absolute()
        try:
            names = alternative_names(hosts)
        except ValueError as error:
            raise CertificateError(str(error)) from error
        return _Plan(name, common_name, names, folder, lifetime)

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
                refuse_to_overwrite(*(folder / f"{name}{end}" for end in ends))
                self._files.lay_certificate_in(folder)
                issued = self.sign_key(
                    name, plan.common_name, plan.names, public_key, folder, now, plan.lifetime
                )
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
            self._files.write_crl(record, now)
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

        The key stays, so that certificate and key fit together at any moment, and the new one
        is valid for as many days as the old one.  What was revoked stays so.  A certificate
        whose folder is gone is recorded there anew under ``issued/NAME``.

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
                # What is valid for a month is not always about to end.
                is_due = one.not_after - now <= min(within, (one.not_after - one.not_before) / 2)
                is_wanted = is_due if name is None else one.name == name
                if one.revoked_at is not None or not is_wanted:
                    continue
                old = x509.load_pem_x509_certificate(one.pem.encode())
                folder = one.folder
                if not folder.is_dir():
                    folder = self.directory / _ISSUED_FOLDER / one.name
                again = self.sign_key(
                    one.name,
                    one.common_name,
                    names_in(old),
                    old.public_key(),
                    folder,
                    now,
                    min(timedelta(days=round((one.not_after - one.not_before) / _DAY)), LIFETIME),
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
            self._files.write_crl(record, now)
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
                self._files.write_crl(record, datetime.now(UTC))

    def sign_key(
        self,
        name: str,
        common_name: str,
        names: Sequence[x509.GeneralName],
        public_key: CertificatePublicKeyTypes,
        folder: Path,
        now: datetime,
        lifetime: timedelta = LIFETIME,
    ) -> Issued:
        if self.certificate.not_valid_after_utc <= now:
            raise CertificateError(
                f"the CA in {self.directory} has expired; make a new one with "
                "isocenter certs init --ca-dir DIR, and let the peers trust it"
            )
        certificate = build_leaf(
            self.certificate,
            self._files.private_key(),
            common_name,
            names,
            public_key,
            now,
            lifetime,
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


def ensure_ca(directory: Path) -> CertificateAuthority:
    """The CA in *directory*; a new one when there is none, its list of revoked ones current.

    Raises:
        CertificateError: there is something else, or it cannot be used or written.
    """
    if not directory.exists() or not any(directory.iterdir()):
        try:
            return CertificateAuthority.create(directory)
        except CertificateError:
            if not (directory / CA_CERTIFICATE).exists():
                raise
            # Another process was first.
    authority = CertificateAuthority(directory)
    authority.refresh()
    return authority
