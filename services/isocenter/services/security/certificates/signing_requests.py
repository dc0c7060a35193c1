"""Certificate signing requests of modalities (PKCS #10, RFC 2986): what is believed of them.

A request proves that its sender has the key.  All else in it is a wish.  The subject of a
certificate is the AE title that the operator means; names that the request wants are taken only
where the operator gives them, too, since a name in a certificate opens an AE title of that text;
key usages are ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from isocenter.engine.fast_init import dataclass
from isocenter.services.errors import text_of
from isocenter.services.security.certificates.issued import CertificateError
from isocenter.services.security.certificates.keys import PublicKey, weakness_of

_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Request:
    """What a request says.

    Attributes:
        common_name: empty: none, or several.
        names: DNS names and addresses that it wants, as text.
    """

    public_key: PublicKey
    common_name: str
    names: tuple[str, ...]


def read_request(path: Path) -> Request:
    """A request in PEM or DER, whose sender has the key.

    Raises:
        CertificateError: it is none, or not one to be signed; the message says why.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CertificateError(f"{path}: {text_of(error)}") from error
    return request_in(content, str(path))


def request_in(content: bytes, source: str) -> Request:
    """The same of what was read.

    Args:
        source: where it comes from, for messages.

    Raises:
        CertificateError: as of `read_request`.
    """
    if len(content) > _MOST_BYTES:
        raise CertificateError(f"{source}: too large for a certificate signing request")
    if b"PRIVATE KEY-----" in content:
        raise CertificateError(
            f"{source} holds a private key; that stays at the modality. Send the request alone"
        )
    try:
        is_pem = content.lstrip().startswith(b"-----BEGIN")
        load = x509.load_pem_x509_csr if is_pem else x509.load_der_x509_csr
        request = load(content)
        public_key = request.public_key()
        common_names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names, wants_ca = _wishes(request)
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        hint = " (a certificate is no request)" if b"BEGIN CERTIFICATE-----" in content else ""
        raise CertificateError(
            f"{source}: not a certificate signing request (PKCS #10, PEM or DER){hint}"
        ) from error
    weakness = weakness_of(public_key)
    if weakness or not isinstance(public_key, PublicKey):
        raise CertificateError(f"{source}: {weakness}; have the modality make another key")
    try:
        is_proven = request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        is_proven = False
    if not is_proven:
        raise CertificateError(
            f"{source}: its signature is not of its key; the file was changed, or its sender does "
            "not have the key"
        )
    if wants_ca:
        raise CertificateError(
            f"{source}: it asks for a certificate that may sign others (CA:TRUE), which no "
            "application entity needs; have the modality make a request without"
        )
    common_name = str(common_names[0].value) if len(common_names) == 1 else ""
    return Request(public_key, common_name, names)


def _wishes(request: x509.CertificateSigningRequest) -> tuple[tuple[str, ...], bool]:
    """Names that it wants, and whether it wants to be a CA."""
    names: list[str] = []
    wants_ca = False
    for extension in request.extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as wanted:
                names = [str(getattr(name, "value", name)) for name in wanted]
            case x509.BasicConstraints(ca=True):
                wants_ca = True
            case x509.KeyUsage(key_cert_sign=True):
                wants_ca = True
            case _:
                pass
    return tuple(names), wants_ca
