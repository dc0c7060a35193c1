"""Time stamps of signatures (RFC 3161), certified by a time stamping authority.

A token says that an authority has seen a signature at a time; so the signature holds on when its
certificate has expired.  A token is signed data of CMS (RFC 5652).
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.dicom.signatures.algorithms import (
    SignatureError,
    der_part,
    is_signature_of,
)
from isocenter.services.dicom.signatures.certificates import Trust, extensions_of
from isocenter.services.dicom.signatures.der import (
    CONTEXT_0,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    SET,
    DerError,
    Value,
    encoded,
    identifier,
    integer,
    one,
    values,
)

if TYPE_CHECKING:
    from cryptography import x509

#: Media type of a query (RFC 3161 3.4).
QUERY_TYPE: Final = "application/timestamp-query"
#: Each certificate of a token is one that may have issued each other one.
_MOST_CERTIFICATES: Final = 16
#: Clocks differ; what is later than this was not stamped yet.
_SKEW: Final = timedelta(minutes=5)
_NONCE_BYTES: Final = 8
_TRUE: Final = b"\x01\x01\xff"
_NULL: Final = b"\x05\x00"
_SIGNED_DATA: Final = identifier("1.2.840.113549.1.7.2")
_TST_INFO: Final = identifier("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE: Final = identifier("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST: Final = identifier("1.2.840.113549.1.9.4")
#: ESS: which certificate it was signed with (RFC 2634, RFC 5035), by SHA-1 and by any hash.
_SIGNING_CERTIFICATE: Final = identifier("1.2.840.113549.1.9.16.2.12")
_SIGNING_CERTIFICATE_V2: Final = identifier("1.2.840.113549.1.9.16.2.47")
_HASHES: Final = {
    identifier("2.16.840.1.101.3.4.2.1"): "SHA256",
    identifier("2.16.840.1.101.3.4.2.2"): "SHA384",
    identifier("2.16.840.1.101.3.4.2.3"): "SHA512",
}
_SHA256: Final = identifier("2.16.840.1.101.3.4.2.1")
_GENERALIZED: Final = ("%Y%m%d%H%M%SZ", "%Y%m%d%H%M%S.%fZ")


class TimestampError(IsocenterError, ValueError):
    """A time stamp does not hold; the message says why."""

    error_code = ErrorCode.SIGNATURE


class TimestampQuery(NamedTuple):
    """What an authority is asked.

    Attributes:
        body: to be sent.
    """

    body: bytes
    digest: bytes
    nonce: int


def timestamp_query(signature: bytes) -> TimestampQuery:
    """A query for a stamp of *signature*, with the certificate of the authority."""
    digest = hashlib.sha256(signature).digest()
    nonce = int.from_bytes(secrets.token_bytes(_NONCE_BYTES), "big")
    body = encoded(
        SEQUENCE,
        integer(1),
        encoded(SEQUENCE, encoded(SEQUENCE, _SHA256, _NULL), encoded(OCTET_STRING, digest)),
        integer(nonce),
        _TRUE,
    )
    return TimestampQuery(body, digest, nonce)


def stamped(query: TimestampQuery, reply: bytes) -> bytes:
    """The token in an authority's reply to a query.

    Raises:
        SignatureError: it has refused, or its reply is to something else.
    """
    try:
        status, *token = one(reply, SEQUENCE).inner()
        number = int.from_bytes(status.inner()[0].content, "big")
        if number not in (0, 1) or len(token) != 1:
            raise SignatureError(f"the time stamping authority has refused (status {number})")
        info = _Token(token[0].whole).info
    except SignatureError:
        raise
    except (ValueError, LookupError) as error:
        raise SignatureError(
            "what the time stamping authority answered is no time stamp"
        ) from error
    if info.digest != query.digest or info.nonce != query.nonce:
        raise SignatureError("the time stamping authority has stamped something else")
    return token[0].whole


def verify_timestamp(raw: bytes, signature: bytes, trust: Trust, now: datetime) -> datetime:
    """When an authority has seen *signature*.

    Args:
        raw: the token, in DER, unpadded.
        trust: which authorities are believed.

    Raises:
        TimestampError: the token is not of this signature, or not of such an authority.
    """
    try:
        token = _Token(raw)
        at = token.verified(signature, trust)
    except TimestampError:
        raise
    except Exception as error:
        # Its certificates are read part by part, and what that raises is not of one kind.
        raise TimestampError("it cannot be read") from error
    if at > now + _SKEW:
        raise TimestampError("it is from the future")
    return at


class _Info(NamedTuple):
    """What a token says (RFC 3161 2.4.2)."""

    hash_name: str
    digest: bytes
    at: datetime
    nonce: int | None


class _Token:
    """A token, taken apart.

    Raises:
        DerError: it is none.
    """

    def __init__(self, raw: bytes) -> None:
        kind, content = one(raw, SEQUENCE).inner()
        if kind.whole != _SIGNED_DATA or content.tag != CONTEXT_0:
            raise DerError
        fields = one(content.content, SEQUENCE).inner()
        kind, content = fields[2].inner()
        if kind.whole != _TST_INFO or content.tag != CONTEXT_0:
            raise DerError
        self._signed = one(content.content, OCTET_STRING).content
        self.info = _info_of(self._signed)
        self._certificates = [
            each.whole
            for field in fields[3:]
            if field.tag == CONTEXT_0
            for each in field.inner()
            if each.tag == SEQUENCE
        ]
        self._signers = [each for field in fields[3:] if field.tag == SET for each in field.inner()]

    def verified(self, signature: bytes, trust: Trust) -> datetime:
        """When it was made, if it is of *signature* and of an authority that is trusted."""
        # Padded to even length, or as it was before: the pad says nothing.
        forms = {signature, der_part(signature)}
        if all(
            hashlib.new(self.info.hash_name, form).digest() != self.info.digest for form in forms
        ):
            raise TimestampError("it is one of another signature")
        if len(self._signers) != 1:
            raise TimestampError("it has not exactly one signer")
        signer = self._signers[0].inner()
        known = self._known(trust)
        authority = _authority(signer[1], known)
        self._check(signer, authority)
        _check_purpose(authority)
        found = trust.with_intermediates(known).distrust(authority, self.info.at, is_stamper=True)
        if found is not None:
            raise TimestampError(f"the certificate of its authority: {found.why}")
        return self.info.at

    def _known(self, trust: Trust) -> list[x509.Certificate]:
        from cryptography import x509

        known = [*trust.anchors, *trust.intermediates]
        if len(self._certificates) > _MOST_CERTIFICATES:
            raise TimestampError(f"it has more than {_MOST_CERTIFICATES} certificates")
        for raw in self._certificates:
            try:
                known.append(x509.load_der_x509_certificate(raw))
            except Exception:  # noqa: S112 - one that cannot be read is none; it may not be needed
                continue
        return known

    def _check(self, signer: list[Value], authority: x509.Certificate) -> None:
        """Whether the authority has signed what the token says (RFC 5652 5.4, 5.6)."""
        from cryptography.hazmat.primitives.serialization import Encoding

        hash_name = _HASHES.get(signer[2].inner()[0].whole)
        if hash_name is None or signer[3].tag != CONTEXT_0:
            raise TimestampError("it is signed in a way that is not known here")
        attributes = {
            kind.whole: one(content.content, content.inner()[0].tag)
            for kind, content in (each.inner() for each in values(signer[3].content))
        }
        if attributes[_CONTENT_TYPE].whole != _TST_INFO:
            raise TimestampError("it is signed for something else")
        if attributes[_MESSAGE_DIGEST].content != hashlib.new(hash_name, self._signed).digest():
            raise TimestampError("what it says was changed")
        certificate = authority.public_bytes(Encoding.DER)
        if not _names(attributes, certificate):
            raise TimestampError("it names another certificate of its authority")
        digest = hashlib.new(hash_name, encoded(SET, signer[3].content)).digest()
        value = signer[5].content
        try:
            is_signed = is_signature_of(authority.public_key(), hash_name, digest, value)
        except (SignatureError, ValueError) as error:
            raise TimestampError(str(error)) from error
        if not is_signed:
            raise TimestampError("its authority has not signed it")


def _info_of(raw: bytes) -> _Info:
    _, _, imprint, _, at, *rest = one(raw, SEQUENCE).inner()
    algorithm, digest = imprint.inner()
    hash_name = _HASHES.get(algorithm.inner()[0].whole)
    if hash_name is None or at.tag != GENERALIZED_TIME:
        raise DerError
    text = at.content.decode("ascii", "replace")
    nonce = next(
        (int.from_bytes(each.content, "big") for each in rest if each.tag == INTEGER), None
    )
    for form in _GENERALIZED:
        try:
            moment = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return _Info(hash_name, digest.content, moment, nonce)
    raise DerError


def _authority(identifier_of_signer: Value, known: list[x509.Certificate]) -> x509.Certificate:
    """The certificate that a SignerInfo names (RFC 5652 5.3)."""
    from cryptography import x509

    if identifier_of_signer.tag == SEQUENCE:
        issuer, serial = identifier_of_signer.inner()
        number = int.from_bytes(serial.content, "big")
        for each in known:
            if each.serial_number == number and each.issuer.public_bytes() == issuer.whole:
                return each
    else:
        for each in known:
            for extension in extensions_of(each) or ():
                value = extension.value
                if isinstance(value, x509.SubjectKeyIdentifier) and (
                    value.digest == identifier_of_signer.content
                ):
                    return each
    raise TimestampError("the certificate of its authority is not there; name it by --chain")


def _names(attributes: dict[bytes, Value], certificate: bytes) -> bool:
    """Whether the token says that it was signed with *certificate*."""
    if _SIGNING_CERTIFICATE_V2 in attributes:
        first = attributes[_SIGNING_CERTIFICATE_V2].inner()[0].inner()[0].inner()
        hash_name: str | None = "SHA256"
        if first[0].tag == SEQUENCE:
            hash_name = _HASHES.get(first[0].inner()[0].whole)
            first = first[1:]
        if hash_name is None:
            return False
        return first[0].content == hashlib.new(hash_name, certificate).digest()
    if _SIGNING_CERTIFICATE in attributes:
        first = attributes[_SIGNING_CERTIFICATE].inner()[0].inner()[0].inner()
        found = hashlib.new("sha1", certificate, usedforsecurity=False).digest()
        return first[0].content == found
    return False


def _check_purpose(authority: x509.Certificate) -> None:
    """Whether its certificate is one to stamp time, and nothing else (RFC 3161 2.3)."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        usage = authority.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError) as error:
        raise TimestampError("its certificate is not one of a time stamping authority") from error
    is_only = list(usage.value) == [ExtendedKeyUsageOID.TIME_STAMPING]
    if not usage.critical or not is_only:
        raise TimestampError("its certificate is not one of a time stamping authority alone")
