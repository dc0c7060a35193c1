"""Digital signatures looked at and verified (PS3.15 C.1, PS3.3 C.12.1.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from isocenter.engine.dataset.vr import PIXEL_DATA
from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import UNCOMPRESSED
from isocenter.services.dicom.data_set_nodes import ItemNode
from isocenter.services.dicom.data_set_tree import DataSetTree
from isocenter.services.dicom.signatures.algorithms import (
    WEAK_ALGORITHMS,
    SignatureError,
    der_part,
    hashed,
    is_signature_of,
)
from isocenter.services.dicom.signatures.certificates import Trust, TrustFault
from isocenter.services.dicom.signatures.mac_stream import (
    CERTIFICATE_OF_SIGNER,
    CERTIFIED_TIMESTAMP,
    DIGITAL_SIGNATURES_SEQUENCE,
    MAC_PARAMETERS_SEQUENCE,
    SIGNATURE,
    is_signable,
    mac_pieces,
    signable_tags,
    signature_pieces,
)
from isocenter.services.dicom.signatures.profiles import (
    PURPOSES,
    VERIFICATION_FLAG,
    VERIFIED,
    Profile,
    check_document,
    missing_tags,
)
from isocenter.services.dicom.signatures.signing import (
    CERTIFICATE_TYPE,
    DATA_ELEMENTS_SIGNED,
    MAC_ALGORITHM,
    MAC_ID,
    MAC_SYNTAX,
    PURPOSE_SEQUENCE,
    SIGNATURE_DATETIME,
    SIGNATURE_UID,
    X509,
    there,
    value_of,
)
from isocenter.services.dicom.signatures.timestamps import (
    TimestampError,
    verify_timestamp,
)

if TYPE_CHECKING:
    import hashlib

    from cryptography import x509

    from isocenter.engine.buffers import Buffer

#: Each may cover all of the pixels: so many are verified of one data set.
MOST_SIGNATURES: Final = 64
_CODE_VALUE: Final = 0x00080100
_AT_LENGTH: Final = 4
_SECOND: Final = timedelta(seconds=1)
_DATETIME_FORMATS: Final = ("%Y%m%d%H%M%S.%f", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%Y%m%d%H", "%Y%m%d")


class SignatureState(Enum):
    """What came of a verification, the best first."""

    VALID = "valid"
    #: It holds, by an algorithm for which two data sets of the same MAC can be made.
    WEAK = "weak algorithm"
    UNTRUSTED = "untrusted signer"
    EXPIRED = "expired"
    REVOKED = "revoked"
    INVALID = "invalid"


class SignerName(NamedTuple):
    """Whom the certificate of a signature names."""

    common_name: str
    organization: str
    issuer: str
    serial_number: int
    thumbprint: str
    key: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedSignature:
    """A signature, and what came of its verification.

    Attributes:
        place: tag and number (from 0) of the items around it; empty: the data set itself.
        why: it is not valid; empty where it is.
        notes: what else is to be said of it.
        made_at: as the signature says; None: it says none that can be read.
        timestamp: when a time stamping authority saw it; None: it has no such proof that holds.
        tags: what it covers.
        unsigned: what could be covered beside it, and is not.
        profiles: of which it covers all that they want.
    """

    place: tuple[tuple[int, int], ...]
    uid: str
    state: SignatureState
    why: str = ""
    notes: tuple[str, ...] = ()
    made_at: datetime | None = None
    timestamp: datetime | None = None
    mac_algorithm: str = ""
    signer: SignerName | None = None
    purpose: str = ""
    tags: tuple[int, ...] = ()
    unsigned: tuple[int, ...] = ()
    profiles: tuple[Profile, ...] = ()


def verify_signatures(
    tree: DataSetTree,
    *,
    transfer_syntax_uid: str,
    now: datetime,
    trust: Trust | None = None,
    timestamp_trust: Trust | None = None,
    accepts_weak: bool = False,
    checkpoint: Callable[[], None] = lambda: None,
) -> Iterator[VerifiedSignature]:
    """All signatures of a data set and of its items, outer ones first.

    Signatures that cover the same are hashed together, so many of one object cost little more
    than one.

    Args:
        transfer_syntax_uid: that of the data set.
        trust: whose signatures hold; None: nobody asks who signed.
        timestamp_trust: whose time stamps hold; None: as *trust*.
        accepts_weak: MD5, SHA-1 and RIPEMD-160 are as good as others.
        checkpoint: called between pieces of what is hashed; may raise, to end it.
    """
    count = 0
    macs = _Macs(tree, checkpoint)
    for place, item in _placed(tree):
        for node in item.all(DIGITAL_SIGNATURES_SEQUENCE):
            if node.items is None:
                yield VerifiedSignature(
                    place=place, uid="", state=SignatureState.INVALID, why="it cannot be read"
                )
            for signature in there(node):
                count += 1
                if count > MOST_SIGNATURES:
                    yield VerifiedSignature(
                        place=place, uid="", state=SignatureState.INVALID,
                        why=f"more than {MOST_SIGNATURES} signatures are not verified",
                    )  # fmt: skip
                    return
                yield _Verification(
                    tree, item, signature, place, transfer_syntax_uid, now, macs, accepts_weak
                ).verified(trust, timestamp_trust or trust)


class _Macs:
    """MACs over what signatures cover, as far as it is not their own."""

    def __init__(self, tree: DataSetTree, checkpoint: Callable[[], None]) -> None:
        self._tree = tree
        self._checkpoint = checkpoint
        self._hashed: dict[tuple[int, str, tuple[int, ...]], hashlib._Hash] = {}

    def digest(
        self, algorithm: str, item: ItemNode, tags: tuple[int, ...], signature: ItemNode
    ) -> bytes:
        """The MAC of a signature.

        Raises:
            SignatureError: see `hashed`.
        """
        key = id(item), algorithm, tags
        covered = self._hashed.get(key)
        if covered is None:
            pieces = self._stopping(mac_pieces(self._tree, item, tags))
            covered = self._hashed[key] = hashed(algorithm, pieces)
        digest = covered.copy()
        for piece in signature_pieces(self._tree, signature):
            digest.update(piece)
        return digest.digest()

    def _stopping(self, pieces: Iterator[Buffer]) -> Iterator[Buffer]:
        for piece in pieces:
            self._checkpoint()
            yield piece


class _Verification:
    """One signature on its way to be verified."""

    def __init__(
        self,
        tree: DataSetTree,
        item: ItemNode,
        signature: ItemNode,
        place: tuple[tuple[int, int], ...],
        transfer_syntax_uid: str,
        now: datetime,
        macs: _Macs,
        accepts_weak: bool,
    ) -> None:
        self._macs = macs
        self._accepts_weak = accepts_weak
        self._tree = tree
        self._item = item
        self._signature = signature
        self._place = place
        self._syntax = transfer_syntax_uid
        self._now = now
        self._notes: list[str] = []
        self._state = SignatureState.VALID
        self._why = ""
        self._weak = ""

    def verified(self, trust: Trust | None, timestamp_trust: Trust | None) -> VerifiedSignature:
        certificate = self._certificate()
        parameters = self._parameters()
        algorithm = "" if parameters is None else self._text(parameters, MAC_ALGORITHM)
        tags = () if parameters is None else self._signed(parameters)
        made_at = _datetime_of(self._text(self._signature, SIGNATURE_DATETIME))
        timestamp: datetime | None = None
        covered = frozenset(tags)
        present = self._present()
        if parameters is None:
            self._is_invalid("the parameters of its MAC are not there, or there twice")
        elif not tags:
            self._is_invalid("it says not what it covers")
        elif covered.isdisjoint(present):
            self._is_invalid("nothing that it covers is there")
        elif certificate is None:
            self._is_invalid("its certificate is missing, or cannot be read")
        else:
            self._check_mac(certificate, parameters, algorithm, tags)
            if not self._why:
                timestamp = self._timestamp(timestamp_trust)
            if not self._why:
                self._check_signer(certificate, made_at, timestamp, trust)
            if self._weak and self._why:
                self._notes.append(self._weak)  # beside what is worse
            elif self._weak:
                self._state, self._why = SignatureState.WEAK, self._weak
        signable = signable_tags(self._item)
        unknown = len(set(present).difference(covered, signable))
        if unknown:
            self._notes.append(f"{unknown} attributes are UN, or have one in them: not covered")
        return VerifiedSignature(
            place=self._place,
            uid=self._text(self._signature, SIGNATURE_UID),
            state=self._state,
            why=self._why,
            notes=tuple(self._notes),
            made_at=made_at,
            timestamp=timestamp,
            mac_algorithm=algorithm,
            signer=None if certificate is None else _signer_name(certificate),
            purpose=self._purpose(),
            tags=tags,
            unsigned=tuple(tag for tag in signable if tag not in covered),
            profiles=tuple(
                profile
                for profile in Profile
                if not missing_tags(profile, tags, present) and self._is_for(profile, covered)
            ),
        )

    def _present(self) -> list[int]:
        """Tags of its data set or item that may be signed, were it not for their VR."""
        nodes = (node for node in self._item.elements if not node.is_erased)
        return list(dict.fromkeys(node.tag for node in nodes if is_signable(node.tag)))

    def _is_for(self, profile: Profile, covered: frozenset[int]) -> bool:
        flag = value_of(self._tree, self._item, VERIFICATION_FLAG).strip(b" \0")
        try:
            check_document(profile, covered, is_verified=flag == VERIFIED)
        except SignatureError:
            return False
        return True

    def _is_invalid(self, why: str) -> None:
        self._state, self._why = SignatureState.INVALID, why

    def _check_mac(
        self,
        certificate: x509.Certificate,
        parameters: ItemNode,
        algorithm: str,
        tags: tuple[int, ...],
    ) -> None:
        syntax = self._text(parameters, MAC_SYNTAX)
        is_native = self._syntax in UNCOMPRESSED
        if PIXEL_DATA in tags and (syntax in UNCOMPRESSED) is not is_native:
            self._is_invalid(
                "its pixel data were " + ("decompressed" if is_native else "compressed") + " since"
            )
            return
        value = value_of(self._tree, self._signature, SIGNATURE)
        try:
            digest = self._macs.digest(algorithm, self._item, tags, self._signature)
            if not is_signature_of(certificate.public_key(), algorithm, digest, value):
                self._is_invalid("what it covers was changed since, or the key is another one")
        except (SignatureError, ValueError) as error:
            self._is_invalid(str(error))
        if algorithm in WEAK_ALGORITHMS:
            why = f"{algorithm} is no proof against whoever can make two data sets"
            if self._accepts_weak or self._why:
                self._notes.append(why)
            else:
                self._weak = why

    def _check_signer(
        self,
        certificate: x509.Certificate,
        made_at: datetime | None,
        timestamp: datetime | None,
        trust: Trust | None,
    ) -> None:
        if made_at is not None and not (
            # A certificate that was issued in the very second is not yet valid a moment before.
            made_at - certificate.not_valid_before_utc >= -_SECOND
            and made_at <= certificate.not_valid_after_utc
        ):
            self._state = SignatureState.EXPIRED
            self._why = "its certificate was not valid when it was made"
            return
        if trust is None:
            self._notes.append("nobody was named who is trusted, so anybody may have made it")
            return
        found = trust.distrust(certificate, timestamp or self._now)
        if found is not None:
            self._state, self._why = _STATES[found.fault], f"its certificate: {found.why}"

    def _timestamp(self, trust: Trust | None) -> datetime | None:
        token = value_of(self._tree, self._signature, CERTIFIED_TIMESTAMP)
        if not token:
            return None
        if trust is None:
            self._notes.append("it has a time stamp, of an authority that nobody asked about")
            return None
        signature = value_of(self._tree, self._signature, SIGNATURE)
        try:
            return verify_timestamp(der_part(token), signature, trust, self._now)
        except TimestampError as error:
            self._is_invalid(f"its time stamp: {error}")
        return None

    def _parameters(self) -> ItemNode | None:
        number = value_of(self._tree, self._signature, MAC_ID)
        found = [
            item
            for node in self._item.all(MAC_PARAMETERS_SEQUENCE)
            for item in there(node)
            if value_of(self._tree, item, MAC_ID) == number
        ]
        return found[0] if number and len(found) == 1 else None

    def _certificate(self) -> x509.Certificate | None:
        from cryptography import x509

        if self._text(self._signature, CERTIFICATE_TYPE) != X509:
            return None
        raw = der_part(value_of(self._tree, self._signature, CERTIFICATE_OF_SIGNER))
        try:
            certificate = x509.load_der_x509_certificate(raw)
            # Its parts are read when they are asked for: whoever can be named can be judged.
            _signer_name(certificate)
        except Exception:
            return None
        return certificate

    def _signed(self, parameters: ItemNode) -> tuple[int, ...]:
        raw = value_of(self._tree, parameters, DATA_ELEMENTS_SIGNED)
        halves = [
            int.from_bytes(raw[at : at + 2], "big" if parameters.codec.big_endian else "little")
            for at in range(0, len(raw) - len(raw) % _AT_LENGTH, 2)
        ]
        tags = (high << 16 | low for high, low in zip(halves[::2], halves[1::2], strict=True))
        return tuple(dict.fromkeys(tags))

    def _purpose(self) -> str:
        for node in self._signature.all(PURPOSE_SEQUENCE):
            for code in there(node):
                value = self._text(code, _CODE_VALUE)
                return PURPOSES.get(int(value), value) if value.isdecimal() else value
        return ""

    def _text(self, item: ItemNode, tag: int) -> str:
        raw = value_of(self._tree, item, tag)[:1024]
        return raw.decode("ascii", "replace").strip(" \0")


_STATES: Final = {
    TrustFault.EXPIRED: SignatureState.EXPIRED,
    TrustFault.UNTRUSTED: SignatureState.UNTRUSTED,
    TrustFault.REVOKED: SignatureState.REVOKED,
}


def _placed(tree: DataSetTree) -> Iterator[tuple[tuple[tuple[int, int], ...], ItemNode]]:
    todo: list[tuple[tuple[tuple[int, int], ...], ItemNode]] = [((), tree.root)]
    while todo:
        place, item = todo.pop()
        yield place, item
        inner = [
            ((*place, (node.tag, number)), each)
            for node in item.elements
            if not node.is_erased and node.tag != DIGITAL_SIGNATURES_SEQUENCE
            for number, each in enumerate(there(node))
        ]
        todo += reversed(inner)


def _signer_name(certificate: x509.Certificate) -> SignerName | None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    def named(oid: x509.ObjectIdentifier) -> str:
        found = certificate.subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else ""

    key = certificate.public_key()
    kind = type(key).__name__
    if isinstance(key, rsa.RSAPublicKey):
        kind = f"RSA {key.key_size} bits"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        kind = f"ECDSA {key.curve.name}"
    return SignerName(
        named(x509.NameOID.COMMON_NAME),
        named(x509.NameOID.ORGANIZATION_NAME),
        certificate.issuer.rfc4514_string(),
        certificate.serial_number,
        certificate.fingerprint(hashes.SHA256()).hex(),
        kind,
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )


def _datetime_of(text: str) -> datetime | None:
    """A value of VR DT; without an offset it is taken as UTC."""
    zone: timezone = UTC
    if len(text) > 5 and text[-5] in "+-" and text[-4:].isdecimal():
        minutes = int(text[-4:-2]) * 60 + int(text[-2:])
        if minutes < 24 * 60:
            zone = timezone(timedelta(minutes=minutes if text[-5] == "+" else -minutes))
        text = text[:-5]
    for form in _DATETIME_FORMATS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=zone)
        except ValueError:
            continue
    return None
