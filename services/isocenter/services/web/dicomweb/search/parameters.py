"""Query parameters of searches (PS3.18 8.3.4): what to match, what to show, how many.

Attributes are named by keyword or tag, with those of a sequence behind a dot; values come once,
several times, or as a list.  What nobody knows is ignored, as PS3.18 8.3 wants.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.index.query import NameComparison
from isocenter.services.dicom.data_dictionary import keyword_for_tag, tag_for_keyword
from isocenter.services.net.http.messages import HttpError
from isocenter.services.net.http.routing import Parameter

#: Names of the query that are no attributes, and say nothing here.
_OTHERS: Final = frozenset({"accept", "charset", "emptyvaluematching", "multiplevaluematching"})
_TAG: Final = re.compile(r"[0-9A-Fa-f]{8}")
#: VRs whose values no comma stands in.
_LISTED_BY_COMMAS: Final = frozenset({"UI", "CS"})
_MORE: Final = "There are additional results that can be requested"

_NUMBER: Final = "[0-9]{1,9}"
#: As routes describe them.
SEARCH_PARAMETERS: Final = (
    Parameter(
        name="attribute",
        text="Any keyword, tag, or path of them with dots in between: what has to match.",
        is_any=True,
    ),
    Parameter(
        name="includefield",
        text="Attributes that answers show beside the usual ones; `all`: whatever there is.",
    ),
    Parameter(name="limit", text="As many answers at most.", pattern=_NUMBER),
    Parameter(name="offset", text="So many answers are passed over.", pattern=_NUMBER),
    Parameter(
        name="fuzzymatching",
        text="`true`: names that sound alike match as well, with their parts in any order.",
        values=("false", "true"),
    ),
)

#: Tags from the data set down to an attribute.
Path = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParameters:
    """The parameters as understood.

    Attributes:
        matched: the values of each attribute, as they came.
        included: what answers are to show beside the usual.
        includes_all: they are to show whatever there is.
        limit: as many are wanted; None: nothing was said.
        names: how person names are compared (`fuzzymatching`).
    """

    matched: Mapping[Path, Sequence[str]]
    included: frozenset[Path]
    includes_all: bool
    limit: int | None
    offset: int
    names: NameComparison

    def bounded(self, default: int, most: int) -> int:
        """How many matches an answer has, *most* at the most (PS3.18 8.3.4.4.1)."""
        return min(default if self.limit is None else self.limit, most)


def parse_parameters(parameters: Iterable[tuple[str, str]]) -> SearchParameters:
    """Understand the parameters of a search.

    Raises:
        HttpError: a limit or an offset that is none (400).
    """
    matched: dict[Path, list[str]] = {}
    included: set[Path] = set()
    names = NameComparison.LITERAL
    limit: int | None = None
    offset = 0
    includes_all = False
    for name, value in parameters:
        match name:
            case "limit":
                limit = _number(name, value)
            case "offset":
                offset = _number(name, value)
            case "fuzzymatching":
                is_fuzzy = value.lower() == "true"
                names = NameComparison.FUZZY if is_fuzzy else NameComparison.LITERAL
            case "includefield":
                for field in value.split(","):
                    includes_all = includes_all or field == "all"
                    included.add(_path(field.strip()))
            case _ if name in _OTHERS:
                pass
            case _:
                matched.setdefault(_path(name), []).append(value)
    # Those that nobody knows have no path.
    matched.pop((), None)
    return SearchParameters(
        matched=matched,
        included=frozenset(included - {()}),
        includes_all=includes_all,
        limit=limit,
        offset=offset,
        names=names,
    )


def joined_values(vr: str, values: Iterable[str]) -> str:
    """Values of one attribute as a matching key has them, with backslashes."""
    if vr in _LISTED_BY_COMMAS:
        values = [part for one in values for part in one.split(",")]
    return "\\".join(values)


def path_name(path: Sequence[int]) -> str:
    """A path as people write it."""
    return ".".join(keyword_for_tag(tag) or f"{tag:08X}" for tag in path)


def warning_headers(base: str, warnings: Iterable[str], *, is_cut: bool) -> list[tuple[str, str]]:
    """The `Warning` fields of an answer (PS3.18 8.3.4.2).

    Args:
        base: the URL of the service.
        is_cut: there are more matches than the answer has.
    """
    texts = [*warnings, *([_MORE] if is_cut else [])]
    return [("warning", f'299 {base} "{text}"') for text in texts]


def _path(name: str) -> Path:
    """The tags of a name; empty: one of them is not known."""
    found: list[int] = []
    for part in name.split("."):
        tag = int(part, 16) if _TAG.fullmatch(part) else tag_for_keyword(part)
        if tag is None:
            return ()
        found.append(tag)
    return tuple(found)


def _number(name: str, value: str) -> int:
    if re.fullmatch(_NUMBER, value) is None:
        raise HttpError(400, "BAD_QUERY", f"{name} is a whole number from 0 on")
    return int(value)
