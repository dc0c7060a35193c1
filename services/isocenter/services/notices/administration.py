"""Notices of what somebody has changed or used by hand."""

from __future__ import annotations

from dataclasses import field
from enum import Enum

from isocenter.engine.fast_init import dataclass
from isocenter.services.notices.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationReloaded:
    """Certificates, policy or settings were read again while the server ran.

    Attributes:
        what: ``certificates``, ``policy``, ``peers`` …
        fault: why the old one stays; empty: the new one is in use.
    """

    what: str
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChanged:
    """Somebody has changed settings while the server ran; *keys*: which."""

    caller: Caller
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesChanged:
    """Somebody has changed which nodes there are, remote ones or of this archive; *what*: in
    words."""

    caller: Caller
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesChanged:
    """Somebody has changed what is done with objects that come; *what*: in words."""

    caller: Caller
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksChanged:
    """Somebody has changed what the archive does by itself, and when; *what*: in words."""

    caller: Caller
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionUsed:
    """Somebody has used what is not for everybody; *what*: in words, without patients."""

    caller: Caller
    what: str


class OrderAction(Enum):
    """What somebody has done with an entry of the worklist."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """Somebody has added, changed or removed an entry of the worklist, on a page, by the API or by
    an HL7 message.

    Attributes:
        patient_id, patient_name: whose it is.
    """

    caller: Caller
    action: OrderAction
    study_instance_uid: str
    accession_number: str
    patient_id: str = field(repr=False)
    patient_name: str = field(repr=False)
