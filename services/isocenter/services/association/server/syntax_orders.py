"""Orders of transfer syntaxes, by SOP class and calling AE title (PS3.8 9.3.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from isocenter.engine.fast_init import dataclass
from isocenter.engine.negotiation import ANY, Offer
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.dicom.uid_registry import STORAGE_SOP_CLASSES
from isocenter.services.dicom.wildcards import wildcard_match


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntaxOrder:
    """Order in which transfer syntaxes are chosen, for some SOP classes and calling AE titles.

    Attributes:
        preference: UIDs, the most wanted first; those that a service does not offer count for
            nothing.
        sop_classes: abstract syntaxes that it is about; empty: all storage SOP classes.
        ae_titles: of the callers, with ``*`` and ``?`` as wild cards; empty: all.
        is_only: nothing else is accepted, but the default transfer syntax, which every
            implementation has to take (PS3.5 10.1).
    """

    preference: tuple[str, ...]
    sop_classes: frozenset[str] = frozenset()
    ae_titles: tuple[str, ...] = ()
    is_only: bool = False

    def is_for(self, abstract_syntax: str) -> bool:
        """Whether it is about a SOP class."""
        return abstract_syntax in (self.sop_classes or STORAGE_SOP_CLASSES)

    def is_of(self, calling_ae_title: str) -> bool:
        """Whether it is about a caller."""
        return not self.ae_titles or any(
            wildcard_match(pattern, calling_ae_title) for pattern in self.ae_titles
        )

    def apply(self, offer: Offer) -> Offer:
        """*offer* in this order."""
        offered = offer.transfer_syntaxes
        first = [one for one in self.preference if one in offered or ANY in offered]
        if self.is_only:
            rest = [one for one in (IMPLICIT_VR_LITTLE_ENDIAN,) if one in offered or ANY in offered]
        else:
            rest = list(offered)
        return replace(offer, transfer_syntaxes=tuple(dict.fromkeys((*first, *rest))))


def ordered(
    offer: Callable[[str], Offer | None], orders: Sequence[SyntaxOrder], calling_ae_title: str
) -> Callable[[str], Offer | None]:
    """What is offered to a caller: of *orders*, the first that is about a SOP class holds."""
    mine = [one for one in orders if one.is_of(calling_ae_title)]
    if not mine:
        return offer

    def in_order(abstract_syntax: str) -> Offer | None:
        found = offer(abstract_syntax)
        order = next((one for one in mine if one.is_for(abstract_syntax)), None)
        return found if found is None or order is None else order.apply(found)

    return in_order
