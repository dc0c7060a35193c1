"""Values shown for an entity whose objects say different things.

Standard: an answer holds values that match the keys (PS3.4 C.2.2.1); nothing is said there of
objects that differ.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.matching import matches, matches_combined
from isocenter.services.archive.index.query import CombinedRange, Criterion


@dataclass(frozen=True, slots=True)
class Said:
    """One of the things that objects say.

    Attributes:
        number: names it.
        whose: the patient it is said of; the same for all where that is not the question.
        values: by tag.
    """

    number: Hashable
    whose: Hashable
    values: Mapping[int, str]


class Statements:
    """All that is said of one patient, study or series; looked at once, shown often.

    Args:
        said: at least one, in the order of preference; each with the values of *tags* and of all
            that is asked for.
        tags: what is to be shown.
    """

    def __init__(
        self,
        said: Sequence[Said],
        tags: Collection[int],
        criteria: Sequence[Criterion],
        combined: Sequence[CombinedRange],
    ) -> None:
        self._tags = tags
        self._criteria = criteria
        self._combined = combined
        self._by_number = {each.number: each for each in said}
        self._first = next((each for each in said if self._satisfies(each)), said[0])
        asked = {criterion.tag for criterion in criteria}
        for both in combined:
            asked |= {both.date_tag, both.time_tag}
        #: By patient: of what nobody asked for, the first value that is there.
        self._fill: dict[Hashable, dict[int, str]] = {}
        fillable = [tag for tag in tags if tag not in asked]
        for each in said:
            fill = self._fill.setdefault(each.whose, {})
            for tag in fillable:
                if each.values[tag] and tag not in fill:
                    fill[tag] = each.values[tag]

    def __contains__(self, number: object) -> bool:
        return number in self._by_number

    def shown(self, own: Hashable = None) -> dict[int, str]:
        """The values of the tags: of what *own* says, if that satisfies all that is asked for; else
        of the first that does (none does: of the very first).

        What that leaves empty, and nobody asked for, is taken from the next one of the same
        patient.
        """
        said = self._by_number.get(own)
        if said is None or not self._satisfies(said):
            said = self._first
        fill = self._fill[said.whose]
        return {tag: said.values[tag] or fill.get(tag, "") for tag in self._tags}

    def _satisfies(self, said: Said) -> bool:
        values = said.values
        return all(matches(each, values[each.tag]) for each in self._criteria) and all(
            matches_combined(both, values[both.date_tag], values[both.time_tag])
            for both in self._combined
        )
