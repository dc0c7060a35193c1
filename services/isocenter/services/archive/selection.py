"""Selection from the archive: matches of a query, and the instances below them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.query import Criterion, Page, Query, ValueList
from isocenter.services.archive.ports import Index, StoredInstance

#: Studies in one question to the index.
_STUDIES_AT_ONCE: Final = 500

_STUDY_INSTANCE_UID: Final = 0x0020000D
#: Patient ID and its issuer, name, birth date.
_PATIENT: Final = (0x00100020, 0x00100021, 0x00100010, 0x00100030)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Instances, study by study, as they were when they were looked for."""

    studies: tuple[tuple[StoredInstance, ...], ...]
    patients: int

    @property
    def instances(self) -> int:
        return sum(map(len, self.studies))

    @property
    def series(self) -> int:
        return len(
            {
                (each.study_instance_uid, each.series_instance_uid)
                for study in self.studies
                for each in study
            }
        )

    @property
    def size(self) -> int:
        """Bytes of Part 10 files."""
        return sum(each.size for study in self.studies for each in study)


async def matches_of(index: Index, query: Query, page: Page) -> Sequence[Mapping[int, str]]:
    """The matches of a page of *query*, in order."""
    return (await index.find_page(query, page)).matches


async def select(index: Index, query: Query) -> Selection:
    """The instances below all matches of *query*."""
    studies: dict[str, list[StoredInstance]] = defaultdict(list)
    async with index.instances(query) as blocks:
        async for block in blocks:
            for stored in block:
                studies[stored.study_instance_uid].append(stored)
    return Selection(
        studies=tuple(map(tuple, studies.values())),
        patients=len(await _patients(index, list(studies))),
    )


async def _patients(index: Index, studies: Sequence[str]) -> set[tuple[str, ...]]:
    """Whose studies they are: ID, issuer, name and birth date."""
    found: set[tuple[str, ...]] = set()
    for start in range(0, len(studies), _STUDIES_AT_ONCE):
        some = tuple(studies[start : start + _STUDIES_AT_ONCE])
        query = Query(
            level=Level.STUDY,
            criteria=(Criterion(_STUDY_INSTANCE_UID, ValueList(some)),),
            return_tags=_PATIENT,
        )
        async with index.find(query) as blocks:
            async for block in blocks:
                found |= {tuple(match.get(tag, "") for tag in _PATIENT) for match in block}
    return found
