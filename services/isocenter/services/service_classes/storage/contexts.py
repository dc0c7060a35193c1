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
from isocenter.services.dicom.pixels.transfer_syntaxes import PIXEL_SYNTAXES

T = TypeVar("T")


#: Transfer syntax UID → those that an object of it can be transcoded to, best first.
Targets = Callable[[str], Sequence[str]]


def no_targets(transfer_syntax_uid: str) -> Sequence[str]:
    """Nothing is transcoded."""
    return ()


def usable_contexts(
    negotiated: Negotiated,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    targets: Sequence[str] = (),
    first: str = "",
) -> list[PresentationContext]:
    """Where an object can go out, best first: in *first*, if that is said; as it is; converted
    between the uncompressed syntaxes; transcoded to one of *targets*."""
    wanted = [first, transfer_syntax_uid]
    if transfer_syntax_uid in UNCOMPRESSED:
        wanted += UNCOMPRESSED
    wanted += targets
    accepted: dict[str, PresentationContext] = {}
    for context in negotiated.contexts.values():
        if context.abstract_syntax == sop_class_uid and context.as_scu:
            accepted.setdefault(context.transfer_syntax, context)
    return [accepted[uid] for uid in dict.fromkeys(wanted) if uid in accepted]


def contexts_for(
    kinds: Iterable[tuple[str, str]], targets: Targets = no_targets, first: str = ""
) -> list[tuple[str, tuple[str, ...]]]:
    """Presentation contexts to propose for objects of these (SOP class, transfer syntax), and
    before these for the transfer syntax *first*, if that is said.

    One context for each compressed syntax, alone, so that each is judged by itself; one
    for all uncompressed ones, the object's own first, as they can be converted.  For what can be
    transcoded, one more with the uncompressed syntaxes that it can become, one with the others,
    and one with those that lose something: a peer chooses one of each.
    """
    wanted = dict.fromkeys(kinds)
    proposals: dict[tuple[str, tuple[str, ...]], None] = {}
    if first:
        proposals |= dict.fromkeys((sop_class, (first,)) for sop_class, _ in wanted)
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
        others = [other for other in targets(syntax) if (sop_class, other) not in wanted]
        for kind in _GROUPS:
            group = tuple(other for other in others if _group_of(other) == kind)
            if group and not (kind == _PLAIN and syntax in UNCOMPRESSED):
                proposals[sop_class, group] = None
    return list(proposals)


_PLAIN, _LOSSLESS, _LOSSY = _GROUPS = ("uncompressed", "lossless", "lossy")


def _group_of(transfer_syntax_uid: str) -> str:
    if transfer_syntax_uid in UNCOMPRESSED:
        return _PLAIN
    known = PIXEL_SYNTAXES.get(transfer_syntax_uid)
    return _LOSSY if known is not None and known.is_lossy else _LOSSLESS


def plan_associations(
    items: Sequence[T],
    kind_of: Callable[[T], tuple[str, str]],
    targets: Targets = no_targets,
    *,
    first: str = "",
) -> list[tuple[list[Context], list[T]]]:
    """Split what is to be sent over as few associations as its presentation contexts need.

    *kind_of* gives (SOP class UID, transfer syntax UID).  Each result is the contexts to
    propose, at most 128, and the items that they serve, in order; *targets* tells what can be
    transcoded, and *first* is a transfer syntax that is wanted for all of them.
    """
    by_kind: dict[tuple[str, str], list[T]] = {}
    for item in items:
        by_kind.setdefault(kind_of(item), []).append(item)
    plans: list[tuple[list[Context], list[T]]] = []
    kinds: list[tuple[str, str]] = []
    for kind in by_kind:
        if kinds and len(contexts_for([*kinds, kind], targets, first)) > MOST_CONTEXTS:
            plans.append(_plan(kinds, by_kind, targets, first))
            kinds = []
        kinds.append(kind)
    if kinds:
        plans.append(_plan(kinds, by_kind, targets, first))
    return plans


def _plan(
    kinds: Sequence[tuple[str, str]],
    by_kind: dict[tuple[str, str], list[T]],
    targets: Targets,
    first: str,
) -> tuple[list[Context], list[T]]:
    contexts: list[Context] = list(contexts_for(kinds, targets, first))
    return contexts, [item for kind in kinds for item in by_kind[kind]]
