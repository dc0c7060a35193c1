"""Presentation contexts for objects: those to propose, and the one to use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from isocenter.engine.negotiation import MOST_CONTEXTS, Negotiated, PresentationContext
from isocenter.engine.uid import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    UNCOMPRESSED,
)
from isocenter.services.association.requestor import Context

T = TypeVar("T")


def choose_context(
    negotiated: Negotiated, sop_class_uid: str, transfer_syntax_uid: str
) -> PresentationContext | None:
    """Where an object can go out: as it is if possible, else converted; None: nowhere."""
    best: PresentationContext | None = None
    for context in negotiated.contexts.values():
        if context.abstract_syntax != sop_class_uid or not context.as_scu:
            continue
        if context.transfer_syntax == transfer_syntax_uid:
            return context
        if (
            transfer_syntax_uid in UNCOMPRESSED
            and context.transfer_syntax in UNCOMPRESSED
            and (
                best is None
                or UNCOMPRESSED.index(context.transfer_syntax)
                < UNCOMPRESSED.index(best.transfer_syntax)
            )
        ):
            best = context
    return best


def contexts_for(
    kinds: Iterable[tuple[str, str]],
) -> list[tuple[str, tuple[str, ...]]]:
    """Presentation contexts to propose for objects of these (SOP class, transfer syntax).

    One context for each compressed syntax, alone, so that each is judged by itself; one
    for all uncompressed ones, the object's own first, as they can be converted.
    """
    wanted = dict.fromkeys(kinds)
    proposals: dict[tuple[str, tuple[str, ...]], None] = {}
    for sop_class, syntax in wanted:
        if syntax in UNCOMPRESSED:
            proposals[sop_class, (syntax,)] = None
            rest = tuple(
                other
                for other in (
                    EXPLICIT_VR_LITTLE_ENDIAN,
                    IMPLICIT_VR_LITTLE_ENDIAN,
                    EXPLICIT_VR_BIG_ENDIAN,
                )
                if other != syntax and (sop_class, other) not in wanted
            )
            if rest:
                proposals[sop_class, rest] = None
        else:
            proposals[sop_class, (syntax,)] = None
    return list(proposals)


def plan_associations(
    items: Sequence[T], kind_of: Callable[[T], tuple[str, str]]
) -> list[tuple[list[Context], list[T]]]:
    """Split what is to be sent over as few associations as its presentation contexts need.

    *kind_of* gives (SOP class UID, transfer syntax UID).  Each result is the contexts to
    propose, at most 128, and the items that they serve, in order.
    """
    by_kind: dict[tuple[str, str], list[T]] = {}
    for item in items:
        by_kind.setdefault(kind_of(item), []).append(item)
    plans: list[tuple[list[Context], list[T]]] = []
    kinds: list[tuple[str, str]] = []
    for kind in by_kind:
        if kinds and len(contexts_for([*kinds, kind])) > MOST_CONTEXTS:
            plans.append(_plan(kinds, by_kind))
            kinds = []
        kinds.append(kind)
    if kinds:
        plans.append(_plan(kinds, by_kind))
    return plans


def _plan(
    kinds: Sequence[tuple[str, str]], by_kind: dict[tuple[str, str], list[T]]
) -> tuple[list[Context], list[T]]:
    return list(contexts_for(kinds)), [item for kind in kinds for item in by_kind[kind]]
