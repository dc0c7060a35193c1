"""Modality worklist as SCP (PS3.4 Annex K): C-FIND over what is scheduled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from isocenter.engine.extended_negotiation import FindFlags
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.index.query import NameComparison
from isocenter.services.association.operation import Operation
from isocenter.services.dicom.uid_registry import IDENTIFIER_SYNTAXES
from isocenter.services.service_classes.query_retrieve.find_responses import (
    FIND_STATUSES,
    FindResponses,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    negotiated_information,
)
from isocenter.services.service_classes.worklist.entry import MODALITY_WORKLIST_FIND, EntryState
from isocenter.services.service_classes.worklist.ports import Worklist, with_state
from isocenter.services.service_classes.worklist.query_keys import Keys, parse_keys

#: What the worklist says yes to when it is asked (PS3.4 K.5.1.1).
_SUPPORTS: Final = FindFlags(
    fuzzy_person_names=True, empty_value_matching=True, multiple_value_matching=True
)


class WorklistScp:
    """Performs C-FIND over a worklist.

    Args:
        states: of the entries that are offered, unless the identifier asks for
            Scheduled Procedure Step Status (0040,0020).
        max_results: matches of one C-FIND; 0: no limit.
        undeclared: the character set of identifiers that declare none.
        fuzzy_names: agree to fuzzy semantic matching of person names.
        fold_accents: compare names without accents when it was not negotiated.
    """

    name = "worklist"
    statuses = FIND_STATUSES

    def __init__(
        self,
        worklist: Worklist,
        *,
        states: Sequence[EntryState] = (EntryState.SCHEDULED,),
        max_results: int = 0,
        undeclared: tuple[str, ...] = (),
        fuzzy_names: bool = True,
        fold_accents: bool = False,
    ) -> None:
        self._undeclared = undeclared
        self._literal = NameComparison.FOLDED if fold_accents else NameComparison.LITERAL
        supported = replace(_SUPPORTS, fuzzy_person_names=fuzzy_names)
        self._worklist = worklist
        self._states = tuple(states)
        self._max_results = max_results
        self._offer = Offer(
            transfer_syntaxes=IDENTIFIER_SYNTAXES,
            extended=lambda asked: supported.both(FindFlags.decode(asked)).encode(),
        )

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax == MODALITY_WORKLIST_FIND else None

    async def perform(self, operation: Operation) -> None:
        syntax = operation.context.transfer_syntax
        answers = await FindResponses.begin(operation)
        answers.limit = self._max_results
        agreed = FindFlags.decode(negotiated_information(operation))
        names = NameComparison.FUZZY if agreed.fuzzy_person_names else self._literal
        keys = parse_keys(answers.identifier, syntax, undeclared=self._undeclared, names=names)
        answers.report_unsupported(keys.unsupported)
        async with self._worklist.find(keys, self._offered(keys)) as blocks:
            async for block in blocks:
                if not await answers.add(
                    keys.response(with_state(stored)).encode(syntax) for stored in block
                ):
                    break
        await answers.finish()

    def _offered(self, keys: Keys) -> Sequence[EntryState]:
        return tuple(EntryState) if keys.asks_for_status else self._states
