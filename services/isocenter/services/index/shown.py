"""What an answer shows where the objects of a patient, study or series say different things.

Standard: an answer holds values that match the keys (PS3.4 C.2.2.1); nothing is said there of
objects that differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from isocenter.services.index.matching import matches, matches_combined
from isocenter.services.index.query import CombinedRange, Criterion


def shown(
    statements: Sequence[tuple[object, Mapping[int, str]]],
    tags: Collection[int],
    criteria: Sequence[Criterion],
    combined: Sequence[CombinedRange],
) -> dict[int, str]:
    """The values of *tags* out of what was said.

    The first statement that satisfies everything counts (none does: the very first).  What it
    leaves empty, and nobody asked for, is taken from the next one of the same patient.

    Args:
        statements: at least one, in the order of preference: whose it is, and the values of
            *tags* and of all that is asked for.
    """
    whose, chosen = next(
        (one for one in statements if _satisfies(one[1], criteria, combined)), statements[0]
    )
    answer = {tag: chosen[tag] for tag in tags}
    asked = {criterion.tag for criterion in criteria}
    for both in combined:
        asked |= {both.date_tag, both.time_tag}
    gaps = [tag for tag, text in answer.items() if not text and tag not in asked]
    for owner, values in statements:
        if not gaps:
            break
        if owner == whose:
            for tag in gaps:
                answer[tag] = values[tag]
            gaps = [tag for tag in gaps if not answer[tag]]
    return answer


def _satisfies(
    values: Mapping[int, str],
    criteria: Sequence[Criterion],
    combined: Sequence[CombinedRange],
) -> bool:
    return all(matches(criterion, values[criterion.tag]) for criterion in criteria) and all(
        matches_combined(both, values[both.date_tag], values[both.time_tag]) for both in combined
    )
