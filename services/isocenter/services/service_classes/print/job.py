"""Print jobs as values: what is printed, and how it stands."""

from __future__ import annotations

from dataclasses import field
from enum import Enum
from typing import Final

from isocenter.engine.fast_init import dataclass


class PrintJobState(Enum):
    """Execution Status (2100,0020), and what we tell of it beside."""

    PENDING = "pending"
    PRINTING = "printing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing becomes of it by itself."""
        return self not in (PrintJobState.PENDING, PrintJobState.PRINTING)


#: Print Priority (2000,0020), the most urgent first.
PRIORITIES: Final = ("HIGH", "MED", "LOW")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposedFilm:
    """A film as a picture.

    Attributes:
        png: 8 bits, gray or RGB.
    """

    png: bytes = field(repr=False)
    width: int
    height: int
    dots_per_inch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPrintJob:
    """What is to be printed.

    Attributes:
        job_uid: SOP Instance UID of the print job.
        originator: AE title that asked, or who it was over the web.
        priority: one of `PRIORITIES`.
        label: Film Session Label (2000,0050).
        study_instance_uid: of what is printed, where it is known; empty: it is not.
    """

    job_uid: str
    originator: str
    films: tuple[ComposedFilm, ...] = field(repr=False)
    copies: int = 1
    priority: str = "MED"
    medium: str = ""
    destination: str = ""
    label: str = field(default="", repr=False)
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrintJob:
    """A job as it stands.

    Attributes:
        films: how many.
        outputs: what is done with it already.
        attempts: how often it was tried.
        fault: of the last attempt; empty: there was none.
        created_at, since, due_at: seconds since 1970: when it came, when it got its state, when
            it is tried next.
        claim: which claim of it this is.
    """

    job_uid: str
    originator: str
    state: PrintJobState
    films: int
    copies: int
    priority: str
    medium: str
    destination: str
    study_instance_uid: str
    created_at: float
    since: float
    due_at: float
    attempts: int = 0
    outputs: tuple[str, ...] = ()
    fault: str = ""
    label: str = field(default="", repr=False)
    claim: int = 0
