"""Certificate of the server itself, signed by its own CA."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from isocenter.services.net.tls.contexts import TlsFiles, check_private
from isocenter.services.net.tls.errors import TlsFileError
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.security.certificates.issued import (
    RENEW_WITHIN,
    SERVER_NAME,
    CertificateError,
    read_record,
    unusable,
    write_record,
)
from isocenter.services.security.certificates.keys import (
    PrivateKey,
    PublicKey,
    generate,
    like,
)
from isocenter.services.security.certificates.profile import (
    alternative_names,
    key_pem,
    names_in,
)
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    PUBLIC_FILE,
    write_file,
)


def ensure_server_certificate(
    directory: Path, ae_title: str, hosts: Iterable[str] = (), *, now: datetime | None = None
) -> TlsFiles:
    """The server's own files, of the CA in *directory*; signed, or signed again, when they are
    missing, end soon, or are for another AE title or fewer hosts.

    Args:
        hosts: beside ``localhost``, its addresses and the name of this machine.

    Raises:
        CertificateError: the CA cannot sign, or its directory cannot be written.
    """
    authority = CertificateAuthority(directory)
    now = now or datetime.now(UTC)
    names = alternative_names([*_own_hosts(), *hosts])
    certificate = directory / f"{SERVER_NAME}.crt"
    key_path = directory / f"{SERVER_NAME}.key"
    with authority.locked():
        record = read_record(directory)
        last = {one.name: one for one in record}.get(SERVER_NAME)
        try:
            key = _load_key(key_path)
            if key is None:
                key = generate(like(authority.public_key()))
                write_file(key_path, key_pem(key), PRIVATE_FILE, replace=True)
            if last is None or not (
                last.revoked_at is None
                and last.not_after - now > RENEW_WITHIN
                and last.common_name == ae_title
                and certificate.is_file()
                and certificate.read_text("ascii", "replace") == last.pem
                and _is_for(last.pem, key.public_key(), names)
            ):
                again = authority.sign_key(
                    SERVER_NAME, ae_title, names, key.public_key(), directory, now
                )
                write_record(directory, [*record, again])
                write_file(certificate, again.pem.encode(), PUBLIC_FILE, replace=True)
        except OSError as error:
            raise unusable(directory, error) from error
    return TlsFiles(
        certificate=certificate, key=key_path, ca=authority.certificate_path, crl=authority.crl_path
    )


def _own_hosts() -> list[str]:
    hosts = ["localhost", "127.0.0.1", "::1"]
    name = socket.gethostname()
    try:
        alternative_names([name])
    except ValueError:  # some machines have names that DNS does not know
        return hosts
    return [*hosts, name]


def _load_key(path: Path) -> PrivateKey | None:
    """The key in *path*; None: it is missing, or no key of ours.

    Raises:
        CertificateError: others may read it, and may have.
    """
    if not path.exists():
        return None
    try:
        check_private(path)
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except TlsFileError as error:
        raise CertificateError(str(error)) from error
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None


def _is_for(pem: str, key: PublicKey, names: Sequence[x509.GeneralName]) -> bool:
    certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
    return certificate.public_key() == key and set(names) <= set(names_in(certificate))
