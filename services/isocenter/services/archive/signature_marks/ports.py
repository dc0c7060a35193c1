"""Port of the marks of digital signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.signature_marks.mark import SignatureMark


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureCount:
    """How many objects of a study have one mark.

    Attributes:
        state, signer, purpose: see `SignatureMark`.
        example: SOP Instance UID of one of them.
    """

    state: str
    signer: str
    purpose: str
    objects: int
    example: str


class SignatureBook(Protocol):
    """Marks of the signed objects that the index has; failures are `StorageError`."""

    async def waiting(self, limit: int) -> Sequence[str]:
        """SOP Instance UIDs of objects that nobody has tried to verify, the oldest first."""
        ...

    async def note(self, sop_instance_uid: str, mark: SignatureMark, *, digest: str = "") -> None:
        """This came of the verification of an object just now; one without a mark gets none where
        it has no signatures.

        Args:
            digest: of what was verified: nothing is noted where another object has its place now;
                empty: that is the same.
        """
        ...

    async def of_study(self, study_instance_uid: str) -> Sequence[SignatureCount]:
        """The marks of a study's objects, most objects first."""
        ...
