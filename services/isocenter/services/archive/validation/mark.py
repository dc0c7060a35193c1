"""Policy of validation, and the mark that it leaves on an object."""

from __future__ import annotations

from enum import Enum

from isocenter.engine.fast_init import dataclass


class ValidationPolicy(Enum):
    """What happens to an object that is not valid by its IOD."""

    #: Nobody looks.
    OFF = "off"
    #: It is kept and marked, and the log says so.
    LOG = "log"
    #: The same, and whoever sent it is told (B007H).
    WARN = "warn"
    #: Refused (A900H).
    REJECT = "reject"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenRule:
    """A rule that an object breaks.

    Attributes:
        code: of the rule, as validation has it.
        severity: error, warning or info.
        path: to the attribute; empty: it is about the whole object.
        count: of the places in which it is broken.
    """

    code: str
    severity: str
    path: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedObject:
    """An object that was refused since it is not valid; nothing of it is kept but this.

    Attributes:
        sender: calling AE title; empty: nobody says.
        device: modality, manufacturer and model, as the object says.
        why: codes and paths of what is wrong; never a value.
    """

    sop_instance_uid: str
    sop_class_uid: str
    sender: str
    device: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationMark:
    """What validation found in an object when it came.

    Attributes:
        sender: calling AE title; empty: nobody says.
        device: modality, manufacturer and model, as the object says.
        rules: that it breaks, errors first; the first of many.
    """

    sender: str = ""
    device: str = ""
    errors: int = 0
    warnings: int = 0
    rules: tuple[BrokenRule, ...] = ()

    @property
    def is_valid(self) -> bool:
        """Whether there is no error."""
        return not self.errors
