"""Keys of the private CA and of those whom it issues certificates to."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from isocenter.services.errors import text_of
from isocenter.services.security.certificates.issued import CertificateError

#: What TLS profiles of PS3.15 Annex B can use.
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

#: BCP 195 (RFC 9325 4.5); beyond the larger one a handshake takes a modality seconds.
LEAST_RSA_BITS: Final = 2_048
MOST_RSA_BITS: Final = 8_192
_LEAST_CURVE_BITS: Final = 256
_EXPONENT: Final = 65_537
_SHORTEST_PASSPHRASE: Final = 4
#: Iterations of key derivation; opening takes a modality a moment.
_ROUNDS: Final = 100_000


class KeyKind(Enum):
    """Which kind of key is made."""

    EC_P256 = "ec-p256"
    EC_P384 = "ec-p384"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"


#: Small, fast, and what BCP 195 puts first; RSA is for peers that cannot.
DEFAULT_KEY: Final = KeyKind.EC_P256


class Pkcs12(Enum):
    """How a PKCS #12 file is encrypted."""

    #: PBES2 with AES-256: everything since about 2019.
    AES = "aes"
    #: 3DES and SHA-1, for Windows and Java before; the file is worth little without a good
    #: passphrase.
    TRIPLE_DES = "3des"


def generate(kind: KeyKind) -> PrivateKey:
    """A new key."""
    match kind:
        case KeyKind.EC_P256:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyKind.EC_P384:
            return ec.generate_private_key(ec.SECP384R1())
        case _:
            return rsa.generate_private_key(_EXPONENT, int(kind.value.removeprefix("rsa-")))


def like(key: PublicKey) -> KeyKind:
    """The kind of key that goes with that of a CA: who verifies one can verify the other."""
    if isinstance(key, rsa.RSAPublicKey):
        return KeyKind.RSA_2048 if key.key_size < 3_072 else KeyKind.RSA_3072
    return KeyKind.EC_P256 if key.key_size <= _LEAST_CURVE_BITS else KeyKind.EC_P384


def hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """What it signs with."""
    is_large = isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size > _LEAST_CURVE_BITS
    return hashes.SHA384() if is_large else hashes.SHA256()


def weakness_of(key: object) -> str:
    """Why a public key is not signed; empty: nothing is wrong with it."""
    match key:
        case rsa.RSAPublicKey():
            exponent = key.public_numbers().e
            if key.key_size < LEAST_RSA_BITS:
                return f"RSA with {key.key_size} bits is too short; {LEAST_RSA_BITS} are the least"
            if key.key_size > MOST_RSA_BITS:
                return f"RSA with {key.key_size} bits is more than others verify ({MOST_RSA_BITS})"
            if exponent < _EXPONENT or exponent % 2 == 0:
                return f"its RSA exponent is {exponent}; {_EXPONENT} is usual"
            return ""
        case ec.EllipticCurvePublicKey():
            if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
                return ""
            return f"the curve {key.curve.name} is in no TLS profile; use P-256 or P-384"
        case _:
            return "a key of that kind is in no TLS profile; use RSA, or a curve P-256 or P-384"


def pkcs12_of(
    name: str,
    key: PrivateKey,
    certificate: x509.Certificate,
    ca: x509.Certificate,
    passphrase: bytes,
    kind: Pkcs12,
) -> bytes:
    """Key, certificate and CA in one file with a passphrase.

    Raises:
        CertificateError: the passphrase cannot be used.
    """
    check_passphrase(passphrase)
    builder = serialization.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(_ROUNDS)
    if kind is Pkcs12.TRIPLE_DES:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        builder = builder.hmac_hash(hashes.SHA1())  # noqa: S303 -- what those peers can
    else:
        builder = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        builder = builder.hmac_hash(hashes.SHA256())
    return pkcs12.serialize_key_and_certificates(
        name.encode(), key, certificate, [ca], builder.build(passphrase)
    )


def open_pkcs12(path: Path, passphrase: bytes) -> PrivateKey:
    """The key in a PKCS #12 file.

    Raises:
        CertificateError: it cannot be read, or the passphrase is another one.
    """
    try:
        key = pkcs12.load_pkcs12(path.read_bytes(), passphrase).key
    except OSError as error:
        raise CertificateError(f"{path}: {text_of(error)}") from error
    except ValueError as error:
        raise CertificateError(f"{path} does not open; is the passphrase right?") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError(f"{path} holds no key")
    return key


def check_passphrase(passphrase: bytes) -> None:
    """Raises:
    CertificateError: it is too short, or no text.
    """
    try:
        passphrase.decode("utf-8")
    except ValueError as error:
        raise CertificateError("the passphrase must be UTF-8 text") from error
    if len(passphrase) < _SHORTEST_PASSPHRASE:
        raise CertificateError(
            f"the passphrase must have {_SHORTEST_PASSPHRASE} characters at least"
        )
