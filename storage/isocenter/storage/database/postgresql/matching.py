"""Reference matcher beside a database that cannot call it.

PostgreSQL has no functions of ours.  So the values that a matcher may be asked about are read
first, each once, and judged here; the question then names those that match.
"""

from __future__ import annotations

from collections.abc import Sequence

from isocenter.storage.database.database import Candidates, Connection, Matcher, Question

_Values = list[tuple[str, ...]]


def answer_matchers(connection: Connection, question: Question) -> tuple[str, tuple[object, ...]]:
    """*question* without ``dicom_matches``: its text, and what is bound to its question marks."""
    text, rest = "", question.text
    parameters: list[object] = []
    unused: list[object] = list(question.parameters)

    def take(piece: str) -> None:
        nonlocal text, unused
        marks = piece.count("?")
        parameters.extend(unused[:marks])
        unused = unused[marks:]
        text += piece

    known: dict[Candidates, _Values] = {}
    for number, (matcher, candidates) in enumerate(
        zip(question.matchers, question.candidates, strict=True)
    ):
        columns = ", ".join(candidates.columns)
        before, call, rest = rest.partition(f"dicom_matches({number}, {columns})")
        assert call
        take(before)
        if candidates not in known:
            known[candidates] = _read(connection, candidates)
        matching = _matching(matcher, known[candidates])
        lists = [list(values) for values in zip(*matching, strict=True)] or [
            [] for _ in candidates.columns
        ]
        arrays = ", ".join("unnest(?::text[])" for _ in lists)
        text += (
            f"{columns} = ANY(?::text[])"
            if len(lists) == 1
            else f"({columns}) IN (SELECT {arrays})"
        )
        parameters += lists
    take(rest)
    return text, tuple(parameters)


def _read(connection: Connection, candidates: Candidates) -> _Values:
    where = f" WHERE {candidates.condition}" if candidates.condition else ""
    columns = ", ".join(candidates.columns)
    select = f"SELECT DISTINCT {columns} FROM {candidates.source}{where}"  # noqa: S608 - constants
    return connection.execute(select, candidates.parameters).fetchall()


def _matching(matcher: Matcher, candidates: Sequence[tuple[str, ...]]) -> _Values:
    return [values for values in candidates if matcher(*values)]
