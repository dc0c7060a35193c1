"""Form over the list of studies, and the search that it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Final, Self
from urllib.parse import urlencode

from isocenter.engine.fast_init import dataclass
from isocenter.services.net.http.messages import Request
from isocenter.services.web.ui.texts import date_of_form

_WILD: Final = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFilter:
    """What the form says: fields as they were written, all in the address of the page.

    Attributes:
        first, last: days, as 2026-11-29.
    """

    name: str = ""
    patient: str = ""
    accession: str = ""
    description: str = ""
    modality: str = ""
    first: str = ""
    last: str = ""

    @classmethod
    def of(cls, request: Request) -> Self:
        """That of a request; what it does not know counts for nothing."""

        def said(name: str) -> str:
            return (request.parameter(name) or "").strip()

        return cls(
            name=said("name"),
            patient=said("patient"),
            accession=said("accession"),
            description=said("description"),
            modality=said("modality"),
            first=said("first"),
            last=said("last"),
        )

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything through."""
        return not self._fields()

    def parameters(self) -> list[tuple[str, str]]:
        """The same as a search over DICOMweb (PS3.18 8.3.4).

        Raises:
            ValueError: a day is none; in words.
        """
        found = [
            ("PatientName", anywhere(self.name)),
            ("PatientID", self.patient),
            ("AccessionNumber", self.accession),
            ("StudyDescription", anywhere(self.description)),
            ("ModalitiesInStudy", self.modality.upper()),
            ("StudyDate", self._days()),
        ]
        return [(name, value) for name, value in found if value]

    def _days(self) -> str:
        try:
            first, last = date_of_form(self.first), date_of_form(self.last)
        except ValueError:
            raise ValueError("write a day as 2026-11-29") from None
        return f"{first}-{last}" if first or last else ""

    def query(self, **changes: object) -> str:
        """The query of the address of the page with *changes*, with its question mark."""
        return address_query(self._fields() | changes)

    def _fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "name": self.name,
            "patient": self.patient,
            "accession": self.accession,
            "description": self.description,
            "modality": self.modality,
            "first": self.first,
            "last": self.last,
        }
        return {name: value for name, value in fields.items() if value}

    def presets(self, today: date) -> Mapping[str, str]:
        """What is asked for most: words → query of the address."""
        yesterday = today - timedelta(days=1)
        return {
            "Today": self.query(first=today, last=""),
            "Yesterday": self.query(first=yesterday, last=yesterday),
            "Last 7 days": self.query(first=today - timedelta(days=6), last=""),
            "Last 30 days": self.query(first=today - timedelta(days=29), last=""),
            "Any date": self.query(first="", last=""),
        }


def anywhere(text: str) -> str:
    """A text that may stand anywhere, unless whoever wrote it said where."""
    return text if not text or _WILD.search(text) else f"*{text}*"


def address_query(fields: Mapping[str, object]) -> str:
    """What is said of a list in its address, with the question mark."""
    said = {name: str(value) for name, value in fields.items() if value}
    if said.get("page") == "1":
        del said["page"]
    return f"?{urlencode(said)}" if said else "?"
