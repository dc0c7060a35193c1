"""Query as SCP (PS3.4 C.4.1): C-FIND, matches streamed from the index."""

from __future__ import annotations

from dataclasses import replace

from isocenter.engine.negotiation import Offer
from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.ports import Index
from isocenter.services.association.operation import Operation
from isocenter.services.service_classes.query_retrieve.find_responses import (
    FIND_STATUSES,
    FindResponses,
)
from isocenter.services.service_classes.query_retrieve.identifier import MatchEncoder
from isocenter.services.service_classes.query_retrieve.information_models import (
    FIND_ROOTS,
    QueryOptions,
    find_offer,
    find_query,
)


class FindScp:
    """Performs C-FIND over the index of an archive.

    Args:
        ae_title: what answers name as Retrieve AE Title (0008,0054).
    """

    name = "query"
    statuses = FIND_STATUSES

    def __init__(self, index: Index, *, ae_title: str, options: QueryOptions | None = None) -> None:
        self._index = index
        self._ae_title = ae_title
        self._options = options or QueryOptions()
        self._offer = find_offer(self._options)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in FIND_ROOTS else None

    async def perform(self, operation: Operation) -> None:
        root = FIND_ROOTS[operation.context.abstract_syntax]
        syntax = operation.context.transfer_syntax
        answers = await FindResponses.begin(operation)
        parsed = find_query(operation, answers.identifier, root, self._options)
        answers.limit = self._options.max_results
        answers.report_unsupported(parsed.unsupported)
        query = replace(parsed.query, shows_first=self._options.shows_first)
        encode = MatchEncoder(parsed, syntax, retrieve_ae_title=self._ae_title).encode
        for each in await followed(query, self._options.links):
            async with self._index.find(each) as blocks:
                async for block in blocks:
                    if not await answers.add(map(encode, block)):
                        break
                else:
                    continue
            break
        await answers.finish()
