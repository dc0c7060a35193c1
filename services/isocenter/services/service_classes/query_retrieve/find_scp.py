"""Query as SCP (PS3.4 C.4.1): C-FIND, matches streamed from the index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from isocenter.engine.dimse.status import Status
from isocenter.engine.negotiation import Offer
from isocenter.services.archive.corrections.links import followed
from isocenter.services.archive.ports import Index
from isocenter.services.archive.reading import ReadableArchive, SearchedIndex
from isocenter.services.archive.tiers.ports import MatchAvailabilities
from isocenter.services.association.operation import Operation
from isocenter.services.errors import OperationError
from isocenter.services.service_classes.query_retrieve.find_responses import (
    FIND_STATUSES,
    FindResponses,
)
from isocenter.services.service_classes.query_retrieve.information_models import (
    FIND_ROOTS,
    QueryOptions,
    find_offer,
    find_query,
    links_for,
)
from isocenter.services.service_classes.query_retrieve.match_encoder import MatchEncoder


class FindScp:
    """Performs C-FIND over the index of an archive.

    Args:
        ae_title: what answers name as Retrieve AE Title (0008,0054).
        availabilities: say of matches how soon they can be read; None: all are ONLINE.
        seen_by: the archive as callers of a project of de-identification see it; None: there are
            no such callers.
    """

    name = "query"
    statuses = FIND_STATUSES
    gives_deidentified = True

    def __init__(
        self,
        index: Index,
        *,
        ae_title: str,
        options: QueryOptions | None = None,
        availabilities: MatchAvailabilities | None = None,
        seen_by: Callable[[str], ReadableArchive] | None = None,
    ) -> None:
        self._seen_by = seen_by
        self._index = index
        self._ae_title = ae_title
        self._options = options or QueryOptions()
        self._availabilities = availabilities
        self._offer = find_offer(self._options)

    def offer(self, abstract_syntax: str) -> Offer | None:
        return self._offer if abstract_syntax in FIND_ROOTS else None

    async def perform(self, operation: Operation) -> None:
        root = FIND_ROOTS[operation.context.abstract_syntax]
        syntax = operation.context.transfer_syntax
        answers = await FindResponses.begin(operation)
        parsed = find_query(operation, answers.identifier, root, self._options)
        answers.limit = self._options.max_results
        answers.seconds = self._options.max_seconds
        answers.level = parsed.query.level.value
        answers.report_unsupported(parsed.unsupported)
        query = replace(parsed.query, shows_first=self._options.shows_first)
        index, availabilities = self._seen(operation.project)
        encode = MatchEncoder(parsed, syntax, retrieve_ae_title=self._ae_title).encode
        links = links_for(operation, self._options)
        for each in await answers.in_time(followed, query, links):
            async with index.find(each) as blocks:
                while (block := await answers.next_of(blocks)) is not None:
                    if availabilities is not None:
                        block = await answers.in_time(availabilities.shown, query.level, block)
                    if not await answers.add(map(encode, block)):
                        break
                else:
                    continue
            break
        await answers.finish()

    def _seen(self, project: str) -> tuple[SearchedIndex, MatchAvailabilities | None]:
        """What a caller searches.

        Raises:
            OperationError: 0124H, nothing is de-identified for it.
        """
        if not project:
            return self._index, self._availabilities
        if self._seen_by is None:
            raise OperationError(Status.NOT_AUTHORIZED, log_detail="nothing is de-identified here")
        archive = self._seen_by(project)
        return archive.index, archive.availabilities
