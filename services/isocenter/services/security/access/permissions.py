"""Permissions and roles, and what each DIMSE operation needs of them.

A permission is an action on a kind of resource, written ``study:read``.  What a SOP
class needs follows from the operations that are asked for on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, Flag
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from isocenter.engine.uid import VERIFICATION
from isocenter.services.dicom.uid_registry import name_of


class Resource(Enum):
    """What there is to be protected."""

    STUDY = "study"
    METADATA = "metadata"
    SYSTEM = "system"
    AUDIT = "audit"
    USER = "user"
    ROLE = "role"
    SERIES = "series"
    IMAGE = "image"


class Action(Flag):
    """What can be done with it."""

    READ = 1
    WRITE = 2
    DELETE = 4
    EXPORT = 8
    EXECUTE = 16


NOTHING: Final = Action(0)
FULL: Final = Action.READ | Action.WRITE | Action.DELETE | Action.EXPORT | Action.EXECUTE
_ACTIONS: Final = {"full": FULL} | {str(one.name).lower(): one for one in Action}

#: Each resource with what may be done with it.
Permissions = Mapping[Resource, Action]

NO_PERMISSIONS: Final[Permissions] = MappingProxyType({})
ALL_PERMISSIONS: Final[Permissions] = MappingProxyType(dict.fromkeys(Resource, FULL))

_STUDY_READ: Final = (Resource.STUDY, Action.READ)
_STUDY_WRITE: Final = (Resource.STUDY, Action.WRITE)
_STUDY_EXPORT: Final = (Resource.STUDY, Action.EXPORT)
_STUDY_EXECUTE: Final = (Resource.STUDY, Action.EXECUTE)

#: DIMSE operation → what it needs.  C-ECHO is for whoever may associate.
NEEDS: Final[Mapping[str, tuple[tuple[Resource, Action], ...]]] = MappingProxyType(
    {
        "C-ECHO": (),
        "C-STORE": (_STUDY_WRITE,),
        "C-FIND": ((Resource.METADATA, Action.READ),),
        "C-MOVE": (_STUDY_EXPORT,),
        "C-GET": (_STUDY_READ, _STUDY_EXPORT),
        "N-CREATE": (_STUDY_WRITE,),
        "N-SET": (_STUDY_WRITE,),
        "N-GET": (_STUDY_READ,),
        "N-DELETE": ((Resource.STUDY, Action.DELETE),),
        "N-ACTION": (_STUDY_EXECUTE,),
        "N-EVENT-REPORT": (_STUDY_READ,),
    }
)
#: Of SOP classes whose names do not tell: abstract syntax → operation → what it needs.
OwnNeeds = Mapping[str, Mapping[str, Permissions]]
NO_OWN_NEEDS: Final[OwnNeeds] = MappingProxyType({})
#: On no SOP class of ours but those of print (`needs_on`); who asks on others is answered by the
#: permission first, and then 0211H.
NOT_PERFORMED: Final = frozenset({"N-DELETE"})


def _role(study: Action, metadata: Action) -> Permissions:
    return MappingProxyType({Resource.STUDY: study, Resource.METADATA: metadata})


_READ_WRITE: Final = Action.READ | Action.WRITE
#: Roles that there are without being made; a policy can replace them.
ROLES: Final[Mapping[str, Permissions]] = MappingProxyType(
    {
        "Viewer": _role(Action.READ, Action.READ),
        # Stores, asks for commitment, reports its steps and reads its worklist.
        "Modality": _role(_READ_WRITE | Action.EXECUTE, _READ_WRITE),
        "Technologist": _role(_READ_WRITE, _READ_WRITE),
        "Radiologist": _role(FULL, _READ_WRITE),
        "Administrator": MappingProxyType(
            dict.fromkeys(
                (
                    Resource.SYSTEM,
                    Resource.ROLE,
                    Resource.USER,
                    Resource.AUDIT,
                    Resource.STUDY,
                    Resource.SERIES,
                    Resource.IMAGE,
                ),
                FULL,
            )
        ),
        "System": ALL_PERMISSIONS,
    }
)
#: What an application entity may do when nobody says.
DEFAULT_ROLE: Final = "Modality"


def parse_permission(text: str) -> Permissions:
    """``study:read``, ``study:read+write``, ``study:full``, or an operation: ``C-STORE``.

    Raises:
        ValueError: it is none of these; the message says what is allowed.
    """
    operation = text.upper()
    if operation in NEEDS:
        return needs_of(operation)
    resource_name, _, actions = text.lower().partition(":")
    try:
        resource = Resource(resource_name)
        action = NOTHING
        for one in actions.split("+"):
            action |= _ACTIONS[one]
    except (ValueError, KeyError):
        resources = ", ".join(each.value for each in Resource)
        raise ValueError(
            f"{text!r} is no permission: RESOURCE:ACTION with {resources} and "
            f"{', '.join(_ACTIONS)} (joined by +), or an operation as C-STORE"
        ) from None
    return {resource: action}


def permission_texts(permissions: Permissions) -> list[str]:
    """As `parse_permission` reads them, in a fixed order."""
    texts = []
    for resource in Resource:
        action = permissions.get(resource, NOTHING)
        if action == FULL:
            texts.append(f"{resource.value}:full")
        elif action:
            texts.append(f"{resource.value}:{'+'.join(str(one.name).lower() for one in action)}")
    return texts


def union(several: Iterable[Permissions]) -> dict[Resource, Action]:
    """What any of them gives."""
    found: dict[Resource, Action] = {}
    for permissions in several:
        for resource, action in permissions.items():
            found[resource] = found.get(resource, NOTHING) | action
    return found


def without(permissions: Permissions, taken: Permissions) -> dict[Resource, Action]:
    """What is left of *permissions*."""
    left = {
        resource: action & ~held
        for resource, action in permissions.items()
        if (held := taken.get(resource, NOTHING)) is not FULL  # asked for each request
    }
    return {resource: action for resource, action in left.items() if action}


def needs_of(operation: str) -> Permissions:
    """What *operation* needs on any SOP class that does not say otherwise."""
    return union({resource: action} for resource, action in NEEDS[operation])


def missing(permissions: Permissions, operation: str, needs: Permissions | None = None) -> str:
    """The permissions that *operation* lacks, as text; empty: none.

    Args:
        needs: None: what it needs on any SOP class.
    """
    needs = needs_of(operation) if needs is None else needs
    return " ".join(permission_texts(without(needs, permissions)))


def operations(permissions: Permissions) -> list[str]:
    """The DIMSE operations that *permissions* are enough for, of those that a service performs."""
    return [
        operation
        for operation in NEEDS
        if operation not in NOT_PERFORMED and not missing(permissions, operation)
    ]


_NORMALIZED: Final = frozenset(one for one in NEEDS if one.startswith("N-"))
#: SOP classes whose operations their names do not tell.
_ASKED_ON: Final = {
    VERIFICATION: frozenset({"C-ECHO"}),
    "1.2.840.10008.1.20.1": frozenset({"N-ACTION"}),  # Storage Commitment Push Model
    "1.2.840.10008.3.1.2.3.3": frozenset({"N-CREATE", "N-SET"}),  # Performed Procedure Step
    "1.2.840.10008.3.1.2.3.4": frozenset({"N-GET"}),  # … Retrieve
    "1.2.840.10008.3.1.2.3.5": frozenset({"N-EVENT-REPORT"}),  # … Notification
    "1.2.840.10008.5.1.4.33": frozenset({"N-CREATE"}),  # Instance Availability Notification
    "1.2.840.10008.5.1.4.34.6.1": frozenset({"N-CREATE", "N-ACTION", "N-GET"}),  # UPS Push
    "1.2.840.10008.5.1.4.34.6.2": frozenset({"N-ACTION", "N-GET", "C-FIND"}),  # UPS Watch
    "1.2.840.10008.5.1.4.34.6.3": frozenset({"N-ACTION", "N-GET", "N-SET", "C-FIND"}),  # UPS Pull
    "1.2.840.10008.5.1.4.34.6.4": frozenset({"N-EVENT-REPORT"}),  # UPS Event
    "1.2.840.10008.5.1.4.34.6.5": frozenset({"C-FIND"}),  # UPS Query
}
#: On print management what is created is a film that is not printed yet, and so is what is deleted.
_FILMS: Final = {
    "1.2.840.10008.5.1.1.9": frozenset(  # Basic Grayscale Print Management Meta
        {"N-CREATE", "N-SET", "N-DELETE", "N-ACTION", "N-GET"}
    ),
    "1.2.840.10008.5.1.1.18": frozenset(  # Basic Color Print Management Meta
        {"N-CREATE", "N-SET", "N-DELETE", "N-ACTION", "N-GET"}
    ),
    "1.2.840.10008.5.1.1.1": frozenset({"N-CREATE", "N-SET", "N-DELETE", "N-ACTION"}),
    "1.2.840.10008.5.1.1.2": frozenset({"N-CREATE", "N-SET", "N-DELETE", "N-ACTION"}),
    "1.2.840.10008.5.1.1.4": frozenset({"N-SET"}),  # Basic Grayscale Image Box
    "1.2.840.10008.5.1.1.4.1": frozenset({"N-SET"}),  # Basic Color Image Box
    "1.2.840.10008.5.1.1.16": frozenset({"N-GET"}),  # Printer
    "1.2.840.10008.5.1.1.23": frozenset({"N-CREATE", "N-DELETE"}),  # Presentation LUT
    "1.2.840.10008.5.1.1.15": frozenset({"N-SET"}),  # Basic Annotation Box
    "1.2.840.10008.5.1.1.14": frozenset({"N-GET"}),  # Print Job
    "1.2.840.10008.5.1.1.16.376": frozenset({"N-GET"}),  # Printer Configuration Retrieval
}
_FILM_NEEDS: Final[Mapping[str, Permissions]] = MappingProxyType({"N-DELETE": needs_of("N-CREATE")})
_ENDINGS: Final = {" - FIND": "C-FIND", " - MOVE": "C-MOVE", " - GET": "C-GET", " Query": "C-FIND"}
_DICOM_ROOT: Final = "1.2.840.10008."


@lru_cache(maxsize=512)
def operations_for(abstract_syntax: str) -> frozenset[str]:
    """The operations that a requestor asks for on *abstract_syntax*."""
    if abstract_syntax in _ASKED_ON:
        return _ASKED_ON[abstract_syntax]
    if abstract_syntax in _FILMS:
        return _FILMS[abstract_syntax]
    name = name_of(abstract_syntax)
    for ending, operation in _ENDINGS.items():
        if name.endswith(ending):
            return frozenset({operation})
    if abstract_syntax.startswith(_DICOM_ROOT) and "Storage" not in name and " " in name:
        return _NORMALIZED
    return frozenset({"C-STORE"})


def needs_on(abstract_syntax: str) -> Mapping[str, Permissions]:
    """Operations that need something else on *abstract_syntax* than on others, and what."""
    return _FILM_NEEDS if abstract_syntax in _FILMS else {}
