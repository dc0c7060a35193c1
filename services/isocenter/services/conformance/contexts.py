"""Presentation contexts in the conformance statement: accepted ones, and their names."""

from __future__ import annotations

from typing import Final

from isocenter.engine.extended_negotiation import (
    ElementCoercion,
    FindFlags,
    RetrieveFlags,
    StorageSupport,
)
from isocenter.engine.negotiation import Offer
from isocenter.services.association.service_registry import (
    NamesSopClasses,
    ServiceRegistry,
)
from isocenter.services.dicom.pydicom_tables import UIDS
from isocenter.services.dicom.uid_registry import (
    DICOM_ROOT,
    STORAGE_SOP_CLASSES,
    name_of,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    FIND_ROOTS,
    GET_ROOTS,
    MOVE_ROOTS,
)
from isocenter.services.service_classes.worklist.entry import (
    MODALITY_WORKLIST_FIND,
)

_SOP_CLASSES: Final = ("SOP Class", "Meta SOP Class")
#: Stands for every private SOP class that nobody names; a UID that is nobody's (PS3.5 B.2).
ANY_PRIVATE: Final = "2.25.0"


def accepted(registry: ServiceRegistry) -> dict[str, Offer]:
    """Every abstract syntax that *registry* accepts, with what it offers: those of the standard,
    those that services name, and `ANY_PRIVATE` where private ones need no name."""
    known = {uid for uid, entry in UIDS.items() if entry[1] in _SOP_CLASSES}
    uids = sorted({*known, *STORAGE_SOP_CLASSES, *names_of(registry)} - {ANY_PRIVATE})
    offers = {uid: registry.offer(uid) for uid in (*uids, ANY_PRIVATE)}
    return {uid: offer for uid, offer in offers.items() if offer is not None}


def names_of(registry: ServiceRegistry) -> dict[str, str]:
    """SOP classes that services name because the standard does not."""
    names = {ANY_PRIVATE: "any other private SOP class, for storage"}
    for service in registry.services:
        if isinstance(service, NamesSopClasses):
            names |= service.sop_classes
    return names


class Contexts:
    """Accepted abstract syntaxes: what each offers, and its name."""

    def __init__(self, registry: ServiceRegistry) -> None:
        self.offers = accepted(registry)
        self._names = names_of(registry)

    def __contains__(self, uid: str) -> bool:
        return uid in self.offers

    def row(self, uid: str) -> tuple[str, str]:
        """Name and UID."""
        shown = f"not below {DICOM_ROOT}" if uid == ANY_PRIVATE else uid
        return self._names.get(uid) or name_of(uid), shown


def roles(offer: Offer) -> str:
    """What the acceptor is in a context."""
    if not offer.scu_role:
        return "SCU, if asked"
    return "SCP; SCU if asked" if offer.scp_role else "SCP"


def extended(uid: str, offer: Offer) -> str:
    """What extended negotiation (PS3.7 D.3.3.5) gives, in words."""
    if offer.extended is None:
        return "none"
    if uid in FIND_ROOTS or uid == MODALITY_WORKLIST_FIND:
        flags = FindFlags.decode(offer.extended(b"\1" * 7) or b"")
        names = {
            "relational queries": flags.relational,
            "combined date-time matching": flags.combined_date_time,
            "fuzzy semantic matching of names": flags.fuzzy_person_names,
            "time zone adjustment": flags.timezone_adjustment,
            "enhanced multi-frame conversion": flags.enhanced_image_conversion,
            "empty value matching": flags.empty_value_matching,
            "multiple value matching": flags.multiple_value_matching,
        }
        return ", ".join(name for name, yes in names.items() if yes) or "none"
    if uid in GET_ROOTS or uid in MOVE_ROOTS:
        relational = RetrieveFlags.decode(offer.extended(b"\1") or b"").relational
        return "relational retrieval" if relational else "none"
    if uid not in STORAGE_SOP_CLASSES and uid != ANY_PRIVATE:
        return "of its own"
    support = StorageSupport.decode(offer.extended(b"") or b"")
    if support is not None and support.coercion is ElementCoercion.MAY:
        return "level 2 (full), signatures level 3 (kept), attributes may be coerced (by rules)"
    return "level 2 (full), signatures level 3 (kept), no coercion"
