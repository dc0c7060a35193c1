"""SOP class extended negotiation of query/retrieve and storage, as named flags (PS3.4).

What travels is one byte for each flag: the service class application information of
`ExtendedNegotiation` (PS3.7 D.3.3.5).  Bytes that are missing are 0; those that we do
not know are ignored.  A requestor proposes, the acceptor answers what it agrees to.
"""

from __future__ import annotations

from dataclasses import astuple, fields
from enum import IntEnum
from typing import Final, Self

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flags:
    """One byte for each field, in their order: 1 for yes."""

    @classmethod
    def decode(cls, information: bytes) -> Self:
        """Read the bytes of a peer; never raises: only a 1 is a yes."""
        flags = (byte == 1 for byte in information)
        return cls(**{field.name: flag for field, flag in zip(fields(cls), flags, strict=False)})

    def encode(self) -> bytes:
        """As many bytes as are needed for the last yes, at least one."""
        return bytes(astuple(self)).rstrip(b"\0") or b"\0"

    def both(self, other: Self) -> Self:
        """What stands in both: the answer to what was proposed."""
        return type(self)(
            **{
                field.name: getattr(self, field.name) and getattr(other, field.name)
                for field in fields(self)
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FindFlags(_Flags):
    """Of the FIND SOP classes (PS3.4 C.5.1.1.1, Table C.5-1)."""

    relational: bool = False
    combined_date_time: bool = False
    fuzzy_person_names: bool = False
    timezone_adjustment: bool = False
    enhanced_image_conversion: bool = False
    empty_value_matching: bool = False
    multiple_value_matching: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrieveFlags(_Flags):
    """Of the MOVE and GET SOP classes (PS3.4 C.5.2.1.1, C.5.3.1.1)."""

    relational: bool = False
    enhanced_image_conversion: bool = False


class StorageLevel(IntEnum):
    """How much of an object a storage SCP keeps (PS3.4 B.4.1)."""

    LOCAL = 0
    BASE = 1
    FULL = 2
    #: The application entity is SCU only.
    NOT_APPLICABLE = 3


class SignatureLevel(IntEnum):
    """What becomes of digital signatures (PS3.4 B.4.1)."""

    UNSPECIFIED = 0
    NOT_PRESERVED = 1
    REPLACED = 2
    PRESERVED = 3


class ElementCoercion(IntEnum):
    """Whether a storage SCP changes elements (PS3.4 B.4.1)."""

    NEVER = 0
    MAY = 1
    #: The application entity is SCU only.
    NOT_APPLICABLE = 2


#: Bytes 1, 3 and 5 have a meaning, 2, 4 and 6 are reserved.
_LEVEL: Final = 0
_SIGNATURES: Final = 2
_COERCION: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSupport:
    """Of the storage SOP classes: what an application entity does as SCP (PS3.4 B.3.1)."""

    level: StorageLevel
    signatures: SignatureLevel = SignatureLevel.UNSPECIFIED
    coercion: ElementCoercion = ElementCoercion.NEVER

    @classmethod
    def decode(cls, information: bytes) -> StorageSupport | None:
        """Read the bytes of a peer; None when one of them has no meaning."""
        padded = information.ljust(_COERCION + 1, b"\0")
        try:
            return cls(
                level=StorageLevel(padded[_LEVEL]),
                signatures=SignatureLevel(padded[_SIGNATURES]),
                coercion=ElementCoercion(padded[_COERCION]),
            )
        except ValueError:
            return None

    def encode(self) -> bytes:
        """Six bytes."""
        return bytes((self.level, 0, self.signatures, 0, self.coercion, 0))
