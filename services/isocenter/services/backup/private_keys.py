"""Private keys in a backup: left out, or encrypted with a passphrase.

A backup travels and lies about; who has the key of the CA can be any application entity.  So a
backup says of each key where it belongs and which one it is, by the digest of its public key, and
holds it only when it was given a passphrase: as PKCS #8, which openssl reads, too.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from isocenter.services.backup.manifest import BackupError, KeptKey
from isocenter.services.errors import text_of

#: A key file is smaller; a larger file is none.
MOST_KEY_BYTES: Final = 64 << 10
_PEM_KEY: Final = b"PRIVATE KEY-----"
_ENCRYPTED: Final = (b"ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED")
#: Shorter ones are guessed.
SHORTEST_PASSPHRASE: Final = 8
_LONGEST_PASSPHRASE: Final = 1_023


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


def decrypted(path: str, content: bytes, passphrase: bytes) -> bytes:
    """A key as it was before `encrypted`.

    Raises:
        BackupError: the passphrase is another one.
    """
    try:
        key = serialization.load_pem_private_key(content, passphrase)
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BackupError(
            f"the key {path} does not open; the passphrase is not the one of this backup"
        ) from error
