"""Settings that hold a SOP class: its UID, or its keyword in PS3.6."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.uid_registry import uid_of_keyword
from isocenter.services.settings import value_types as kinds

#: Of the dictionary: a Meta SOP class is one for many.
_KINDS: Final = frozenset({"SOP Class", "Meta SOP Class"})


@dataclass(frozen=True, slots=True)
class SopClassKind:
    """A SOP class; its value is the UID."""

    allowed: str = "a SOP class by UID, or by its keyword in PS3.6, such as CTImageStorage"

    def from_toml(self, value: object) -> str:
        """A text."""
        if not isinstance(value, str):
            raise TypeError
        return self.from_text(value)

    def from_text(self, text: str) -> str:
        """A UID that does not name something else, or the keyword of PS3.6."""
        uid = text if is_uid(text) else uid_of_keyword(text)
        if uid is None or (uid in UIDS and UIDS[uid][1] not in _KINDS):
            raise ValueError
        return uid

    def to_toml(self, value: object) -> str:
        """Its UID."""
        return kinds.toml_string(str(value))
