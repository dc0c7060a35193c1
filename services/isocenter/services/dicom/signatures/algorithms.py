"""Algorithms of MACs and signatures (PS3.15 Annex C, PS3.3 C.12.1.1.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from isocenter.engine.buffers import Buffer
from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

#: MAC Algorithm (0400,0015) → name of `hashlib`, and what stands before the digest in an RSA
#: signature: DigestInfo of RFC 8017 9.2.
_MAC_ALGORITHMS: Final = {
    "RIPEMD160": ("ripemd160", "3021300906052b2403020105000414"),
    "MD5": ("md5", "3020300c06082a864886f70d020505000410"),
    "SHA1": ("sha1", "3021300906052b0e03021a05000414"),
    "SHA256": ("sha256", "3031300d060960864801650304020105000420"),
    "SHA384": ("sha384", "3041300d060960864801650304020205000430"),
    "SHA512": ("sha512", "3051300d060960864801650304020305000440"),
}
#: With which we sign; the others are verified only.
SIGNING_ALGORITHMS: Final = ("SHA256", "SHA384", "SHA512")
#: Digests for which two data sets can be made, or may soon.
WEAK_ALGORITHMS: Final = frozenset(("RIPEMD160", "MD5", "SHA1"))


class SignatureError(IsocenterError, ValueError):
    """A signature cannot be made, or a file of keys or certificates not be read; says why."""

    error_code = ErrorCode.SIGNATURE


def digest_of(mac_algorithm: str, pieces: Iterable[Buffer]) -> bytes:
    """The MAC over *pieces*.

    Raises:
        SignatureError: the algorithm is unknown, or this machine does not have it.
    """
    return hashed(mac_algorithm, pieces).digest()


def hashed(mac_algorithm: str, pieces: Iterable[Buffer]) -> hashlib._Hash:
    """The same before its end: more can follow, of a copy.

    Raises:
        SignatureError: as `digest_of`.
    """
    known = _MAC_ALGORITHMS.get(mac_algorithm)
    if known is None:
        raise SignatureError("its MAC algorithm is none of " + ", ".join(_MAC_ALGORITHMS))
    try:
        digest = hashlib.new(known[0], usedforsecurity=False)
    except ValueError as error:
        raise SignatureError(f"this machine has no {mac_algorithm}") from error
    for piece in pieces:
        digest.update(piece)
    return digest


def sign_digest(key: PrivateKey, mac_algorithm: str, digest: bytes) -> bytes:
    """The signature of a MAC: PKCS #1 v1.5 with RSA, DER of FIPS 186 with ECDSA."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    algorithm = {
        "SHA256": hashes.SHA256(), "SHA384": hashes.SHA384(), "SHA512": hashes.SHA512(),
    }[mac_algorithm]  # fmt: skip
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), Prehashed(algorithm))
    return key.sign(digest, ec.ECDSA(Prehashed(algorithm)))


def is_signature_of(key: object, mac_algorithm: str, digest: bytes, signature: bytes) -> bool:
    """Whether *signature*, which may be padded to even length, is that of a MAC by *key*.

    Raises:
        SignatureError: the key is neither RSA nor of an elliptic curve.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

    if isinstance(key, rsa.RSAPublicKey):
        raw = signature[: (key.key_size + 7) // 8]
        try:
            found = key.recover_data_from_signature(raw, padding.PKCS1v15(), None)
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return found == bytes.fromhex(_MAC_ALGORITHMS[mac_algorithm][1]) + digest
    if isinstance(key, ec.EllipticCurvePublicKey):
        # Only the length of a digest matters here, and this library knows no RIPEMD-160.
        lengths = {
            16: hashes.MD5(), 20: hashes.SHA1(), 32: hashes.SHA256(), 48: hashes.SHA384(),  # noqa: S303
            64: hashes.SHA512(),
        }  # fmt: skip
        try:
            key.verify(der_part(signature), digest, ec.ECDSA(Prehashed(lengths[len(digest)])))
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            return False
        return True
    raise SignatureError("the key of its certificate is neither RSA nor of an elliptic curve")


def der_part(raw: bytes) -> bytes:
    """*raw* without what pads it to even length: as long as its DER says (X.690 8.1.3)."""
    if len(raw) < 2:
        return raw
    first = raw[1]
    if first < 0x80:
        return raw[: 2 + first]
    count = first & 0x7F
    return raw[: 2 + count + int.from_bytes(raw[2 : 2 + count], "big")]
