"""Pseudonyms made with a key: the same for the same key.

What is given out is HMAC-SHA-256 of the original under a key of its own for each purpose: without
the key nobody can try identifiers one by one, and two runs, or two machines, agree without asking
each other.  `UidMap` keeps what was given out, or brought from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError

#: Bytes that a key needs at least: those of the hash.
MIN_KEY_LENGTH: Final = 16
NEW_KEY_LENGTH: Final = 32
#: Where UIDs go that are made of a UUID (PS3.5 B.2).
UUID_ROOT: Final = "2.25"
_LONGEST_UID: Final = 64
_DICOM_ROOT: Final = "1.2.840.10008."
_CODE_LENGTH: Final = 12
_MOST_DAYS: Final = 365


class PseudonymError(IsocenterError, ValueError):
    """A key or a mapping that cannot be used; the message shows no value of it."""

    error_code = ErrorCode.DEIDENTIFICATION


def new_key() -> bytes:
    """A key that nobody else has."""
    return secrets.token_bytes(NEW_KEY_LENGTH)


def parse_key(data: bytes) -> bytes:
    """The key in a file: hexadecimal digits, or the bytes as they are.

    Raises:
        PseudonymError: it is too short.
    """
    text = data.strip()
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        key = text
    if len(key) < MIN_KEY_LENGTH:
        raise PseudonymError(f"a key has at least {MIN_KEY_LENGTH} bytes; this one has {len(key)}")
    return key


def is_standard_uid(uid: str) -> bool:
    """Whether the standard gave it out: it says what something is, not which one."""
    return uid.startswith(_DICOM_ROOT)


class UidMap:
    """UIDs and what stands in their place, in both directions.

    Two originals never share a pseudonym, and one original never has two.
    """

    def __init__(self, uid_root: str = UUID_ROOT) -> None:
        self.uid_root = uid_root
        self._forward: dict[str, str] = {}
        self._backward: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._forward)

    def __contains__(self, original: str) -> bool:
        return original in self._forward

    def items(self) -> Iterable[tuple[str, str]]:
        """Each original with its pseudonym."""
        return self._forward.items()

    def pseudonym_of(self, original: str) -> str | None:
        """What stands in the place of *original*; None: nothing yet."""
        return self._forward.get(original)

    def original_of(self, pseudonym: str) -> str | None:
        """What *pseudonym* stands for; None: nobody knows."""
        return self._backward.get(pseudonym)

    def add(self, original: str, pseudonym: str) -> None:
        """Note a pair.

        Raises:
            PseudonymError: one of the two belongs to another one already.
        """
        other = self._forward.get(original, pseudonym)
        another = self._backward.get(pseudonym, original)
        if other != pseudonym or another != original:
            raise PseudonymError("a UID of the mapping has another partner already")
        self._forward[original] = pseudonym
        self._backward[pseudonym] = original

    def remove(self, original: str) -> bool:
        """Forget a pair; whether it was there."""
        pseudonym = self._forward.pop(original, None)
        if pseudonym is None:
            return False
        del self._backward[pseudonym]
        return True

    def clear(self) -> None:
        """Forget all."""
        self._forward.clear()
        self._backward.clear()

    def merge(self, other: UidMap) -> int:
        """Add what *other* has; how many are new.

        Raises:
            PseudonymError: the two contradict each other; nothing was added.
        """
        for original, pseudonym in other.items():
            if (
                self._forward.get(original, pseudonym) != pseudonym
                or self._backward.get(pseudonym, original) != original
            ):
                raise PseudonymError("the two mappings contradict each other")
        before = len(self)
        for original, pseudonym in other.items():
            self.add(original, pseudonym)
        return len(self) - before

    def to_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "uid_root": self.uid_root,
            "mappings": [
                {"original": original, "anonymized": pseudonym}
                for original, pseudonym in sorted(self._forward.items())
            ],
        }

    @classmethod
    def from_json(cls, model: object) -> UidMap:
        """What `to_json` has made.

        Raises:
            PseudonymError: it is something else, or contradicts itself.
        """
        if not isinstance(model, Mapping) or not isinstance(model.get("mappings"), list):
            raise PseudonymError('a mapping is an object with a list "mappings"')
        root = model.get("uid_root", UUID_ROOT)
        if not isinstance(root, str):
            raise PseudonymError('"uid_root" is a text')
        made = cls(check_uid_root(root))
        for number, pair in enumerate(model["mappings"], 1):
            values = (
                [pair.get("original"), pair.get("anonymized")] if isinstance(pair, Mapping) else []
            )
            texts = [value for value in values if isinstance(value, str) and is_uid(value)]
            if len(texts) != 2:
                raise PseudonymError(
                    f'mapping {number} is not an object with the UIDs "original" and "anonymized"'
                )
            made.add(*texts)
        return made


def is_uid(text: str) -> bool:
    """Whether it can stand in a UI: digits and dots, 64 at most (PS3.5 9.1)."""
    return 0 < len(text) <= _LONGEST_UID and all(
        part.isdigit() and part.isascii() for part in text.split(".")
    )


def check_uid_root(root: str) -> str:
    """*root*, if UIDs can be made below it.

    Raises:
        PseudonymError: it is none, or leaves no room.
    """
    if not is_uid(root) or len(root) > _LONGEST_UID - 26:
        raise PseudonymError("a UID root is digits and dots, 38 characters at most")
    if is_standard_uid(root + "."):
        raise PseudonymError("that UID root belongs to DICOM itself")
    return root


class Pseudonyms:
    """Pseudonyms of one project.

    Args:
        key: secret of the project; who has it can say which pseudonym an original has.
        uids: what was given out; new ones are added.
        days: of all patients in place of one made for each; None: made.
        keeps_weekdays: whether days are moved by whole weeks.
    """

    def __init__(
        self,
        key: bytes,
        uids: UidMap | None = None,
        *,
        days: int | None = None,
        keeps_weekdays: bool = False,
    ) -> None:
        if len(key) < MIN_KEY_LENGTH:
            raise PseudonymError(f"a key has at least {MIN_KEY_LENGTH} bytes")
        self.uids = UidMap() if uids is None else uids
        self._days = days
        self._keeps_weekdays = keeps_weekdays
        self._keys = {
            purpose: hmac.digest(key, f"isocenter {purpose}".encode(), "sha256")
            for purpose in ("uid", "code", "days", "text", "cipher", "nonce")
        }

    def uid(self, original: str) -> str:
        """What stands in the place of a UID; of one of the standard itself."""
        if is_standard_uid(original):
            return original
        known = self.uids.pseudonym_of(original)
        if known is not None:
            return known
        # What has been replaced already, as in a second run over the same files, is a UID too.
        number = int.from_bytes(self._digest("uid", original)[:16], "big")
        if self.uids.uid_root == UUID_ROOT:
            # Variant and version as of a UUID of no meaning (RFC 9562 5.8).
            number = uuid.UUID(int=number, version=4).int
            made = f"{UUID_ROOT}.{number}"
        else:
            root = self.uids.uid_root
            made = f"{root}.{number}"[:_LONGEST_UID].rstrip(".")
        if is_uid(original):  # what is none needs no way back, and no mapping would take it
            self.uids.add(original, made)
        return made

    def code(self, original: str) -> str:
        """Twelve letters and digits for an identifier."""
        digest = self._digest("code", original)
        return base64.b32encode(digest).decode("ascii")[:_CODE_LENGTH]

    def digest(self, original: str) -> str:
        """Hexadecimal digits for a value: a keyed hash."""
        return self._digest("text", original).hex()

    def days(self, patient: str) -> int:
        """By how many days the dates of a patient are moved: into the past, up to a year."""
        if self._days is not None:
            return self._days
        number = int.from_bytes(self._digest("days", patient)[:8], "big")
        if self._keeps_weekdays:
            return -7 * (1 + number % (_MOST_DAYS // 7))
        return -(1 + number % _MOST_DAYS)

    def encrypted(self, original: bytes) -> str:
        """AES-256-GCM as hexadecimal digits: initialization vector, ciphertext and tag.

        The vector is made of the key and the value, so that the same gives the same.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = hmac.digest(self._keys["nonce"], original, "sha256")[:12]
        return (nonce + AESGCM(self._keys["cipher"]).encrypt(nonce, original, None)).hex()

    def decrypted(self, text: str) -> bytes:
        """What `encrypted` was given.

        Raises:
            PseudonymError: it was made with another key, or changed.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            data = bytes.fromhex(text)
            return AESGCM(self._keys["cipher"]).decrypt(data[:12], data[12:], None)
        except (ValueError, InvalidTag):
            raise PseudonymError("that was encrypted with another key, or changed") from None

    def _digest(self, purpose: str, original: str) -> bytes:
        return hmac.digest(
            self._keys[purpose], original.encode("utf-8", "surrogatepass"), hashlib.sha256
        )
