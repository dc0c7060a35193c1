"""Private keys in a backup: left out, or encrypted with a passphrase.

A backup travels and lies about; who has the key of the CA can be any application entity.  So a
backup says of each key where it belongs and which one it is, by the digest of its public key, and
holds it only when it was given a passphrase: as PKCS #8, which openssl reads, too.  Secrets that
are no key pairs, as those of de-identification, are encrypted by AES-256-GCM under a key that
scrypt makes of the passphrase.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from isocenter.services.backup.manifest import BackupError, KeptKey
from isocenter.services.errors import text_of

#: A key file is smaller; a larger file is none.
MOST_KEY_BYTES: Final = 64 << 10
_PEM_KEY: Final = b"PRIVATE KEY-----"
_ENCRYPTED: Final = (b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
#: Shorter ones are guessed.
SHORTEST_PASSPHRASE: Final = 8
_LONGEST_PASSPHRASE: Final = 1_023
#: Before salt, nonce and ciphertext of a secret.
_SECRET: Final = b"ISOCENTER SECRET 1\n"
_SALT, _NONCE = 16, 12
#: Of scrypt: 32 MiB, a tenth of a second.
_COST, _BLOCK, _LANES = 1 << 15, 8, 1


def is_open_key(content: bytes) -> bool:
    """Whether the content of a file is a private key that anybody can use who has it."""
    return (
        len(content) <= MOST_KEY_BYTES
        and _PEM_KEY in content
        and not any(mark in content for mark in _ENCRYPTED)
    )


def read_passphrase(path: Path) -> bytes:
    """The passphrase in a file: all of it, without a line end.

    Raises:
        BackupError: it cannot be read, or cannot be one.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LONGEST_PASSPHRASE + 3).rstrip(b"\r\n")
    except OSError as error:
        raise BackupError(f"the passphrase file {path}: {text_of(error)}") from error
    if os.name == "posix" and mode & 0o077:
        raise BackupError(f"the passphrase file {path} is open to others; chmod 600 {path}")
    if not SHORTEST_PASSPHRASE <= len(text) <= _LONGEST_PASSPHRASE:
        raise BackupError(
            f"the passphrase in {path} must have {SHORTEST_PASSPHRASE} to {_LONGEST_PASSPHRASE} "
            f"bytes; make one with openssl rand -base64 24 > {path}"
        )
    return text


def note_of(path: str, content: bytes, *, kept: str) -> KeptKey:
    """What a backup says of a key."""
    try:
        key = serialization.load_pem_private_key(content, None)
        digest = public_key_sha256(key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        digest = ""
    return KeptKey(path=path, public_key_sha256=digest, kept=kept)


def public_key_sha256(key: PrivateKeyTypes) -> str:
    """Tells one key from another, and nothing of it."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(public).hexdigest()


def encrypted(path: str, content: bytes, passphrase: bytes) -> bytes:
    """A key in PEM, as PKCS #8 with a passphrase.

    Raises:
        BackupError: it is no key that can be written so.
    """
    try:
        key = serialization.load_pem_private_key(content, None)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase),
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BackupError(
            f"{path}: cannot be read as a private key, so not be encrypted"
        ) from error


def encrypted_secret(content: bytes, passphrase: bytes) -> bytes:
    """Any secret, with a passphrase; `decrypted` opens it."""
    salt, nonce = secrets.token_bytes(_SALT), secrets.token_bytes(_NONCE)
    sealed = AESGCM(_key_of(passphrase, salt)).encrypt(nonce, content, _SECRET)
    return _SECRET + salt + nonce + sealed


def _key_of(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_COST, r=_BLOCK, p=_LANES).derive(passphrase)


def _opened_secret(content: bytes, passphrase: bytes) -> bytes:
    rest = content[len(_SECRET) :]
    salt, nonce, sealed = rest[:_SALT], rest[_SALT : _SALT + _NONCE], rest[_SALT + _NONCE :]
    return AESGCM(_key_of(passphrase, salt)).decrypt(nonce, sealed, _SECRET)


def decrypted(path: str, content: bytes, passphrase: bytes) -> bytes:
    """A key as it was before `encrypted`, or `encrypted_secret`.

    Raises:
        BackupError: the passphrase is another one.
    """
    try:
        if content.startswith(_SECRET):
            return _opened_secret(content, passphrase)
        key = serialization.load_pem_private_key(content, passphrase)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    except (ValueError, TypeError, InvalidTag, UnsupportedAlgorithm) as error:
        raise BackupError(
            f"the key {path} does not open; the passphrase is not the one of this backup"
        ) from error
