"""Cache of A-ASSOCIATE-RQ PDUs, found again by their bytes (PS3.8 9.3.2).

A modality that opens an association for each image proposes the same each time.  This is a
memory of facts that hold for ever (the meaning of bytes), bounded, and without it everything
comes out the same.
"""

from __future__ import annotations

from typing import Final, Generic, Protocol, TypeVar

from isocenter.engine.items import UserInformation
from isocenter.engine.limits import Limits

#: Bytes of all PDUs that are kept; as values they need up to 14 times as much.
_MOST_BYTES: Final = 256 << 10
#: A longer one has more proposals than any known program makes.
_LONGEST: Final = 32 << 10


class _Request(Protocol):
    @property
    def user_information(self) -> UserInformation: ...


_R = TypeVar("_R", bound=_Request)


class AssociateRequests(Generic[_R]):
    """The requests seen lately; none with a user identity, whose secrets are not kept."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Limits, _R]] = {}
        self._bytes = 0

    def find(self, body: bytes, limits: Limits) -> _R | None:
        """What *body* was found to say under the same limits."""
        known = self._known.get(body)
        return known[1] if known is not None and known[0] is limits else None

    def remember(self, body: bytes, limits: Limits, request: _R) -> None:
        """Keep what *body* says."""
        if len(body) > _LONGEST or request.user_information.user_identity is not None:
            return
        if self._bytes + len(body) > _MOST_BYTES:
            self._known.clear()
            self._bytes = 0
        if body not in self._known:
            self._bytes += len(body)
        self._known[body] = (limits, request)
