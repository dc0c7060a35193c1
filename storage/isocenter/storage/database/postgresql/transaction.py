"""Transaction of PostgreSQL, in which functions of the stores are called."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from isocenter.storage.database.database import (
    Cursor,
    Question,
    TurnNeededError,
    Values,
)
from isocenter.storage.database.postgresql.matching import answer_matchers
from isocenter.storage.database.postgresql.pipeline import Answer, Pipeline
from isocenter.storage.database.postgresql.statements import join, translate
from isocenter.storage.database.postgresql.turns import (
    lock_names,
)


class TranslatingConnection:
    """See `isocenter.storage.database.database.Connection`; lives in one transaction.

    Attributes:
        told: what transaction it is, and the time.
    """

    def __init__(
        self, pipeline: Pipeline, told: Answer | None = None, *, has_turn: bool = True
    ) -> None:
        self._pipeline = pipeline
        self.told = told
        self.has_turn = has_turn
        self._portions: list[_Portions] = []

    def execute(self, statement: str, values: Values = (), /) -> Cursor:
        translated = translate(statement)
        return self._pipeline.send(translated.message, translated.bind(values))

    def executemany(self, statement: str, rows: Iterable[Values], /) -> Cursor:
        translated = translate(statement)
        message, bind, send = translated.message, translated.bind, self._pipeline.send
        return _Many([send(message, bind(values)) for values in rows])

    def ask(self, question: Question) -> Cursor:
        text, parameters = answer_matchers(self, question)
        translated = translate(text)
        if not question.rows_at_once:
            return self._pipeline.send(translated.message, translated.bind(parameters))
        # All rows would be sent otherwise, and PostgreSQL would plan for all.
        name = f"part_{len(self._portions)}"
        self._pipeline.send(
            f"DECLARE {name} NO SCROLL CURSOR FOR ".encode() + translated.message,
            translated.bind(parameters),
            is_kept=False,
        )
        portions = _Portions(self._pipeline, name, question.rows_at_once)
        self._portions.append(portions)
        return portions

    def execute_all(self, statements: Iterable[tuple[str, Iterable[Values]]], /) -> None:
        """See `Connection.execute_all`: of each as many values as there are of all go together."""
        waiting = [(statement, iter(rows)) for statement, rows in statements]
        while True:
            texts, parts, values = [], [], list[Any]()
            for part in waiting:
                row = next(part[1], None)
                if row is not None:
                    texts.append(part[0])
                    parts.append(part)
                    values += translate(part[0]).bind(row)
            if not texts:
                return
            one = join(tuple(texts)) if len(texts) > 1 else translate(texts[0])
            self._pipeline.send(one.message, values)
            waiting = parts

    def lock(self, names: Iterable[str]) -> None:
        """See `Connection.lock`."""
        if not self.has_turn:
            self.told = lock_names(self._pipeline, names)

    def need_turn(self) -> None:
        """See `Connection.need_turn`."""
        if not self.has_turn:
            raise TurnNeededError

    def end(self) -> None:
        """The same, and hear all that was not heard."""
        self.close()
        self._pipeline.receive()

    def close(self) -> None:
        """Close what was not read to its end."""
        for portions in self._portions:
            portions.close()


class _Many:
    """The answers to one statement with several values (see `Cursor`)."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    @property
    def rowcount(self) -> int:
        return sum(answer.rowcount for answer in self._answers)

    @property
    def description(self) -> Sequence[Sequence[Any]]:
        return self._answers[0].description if self._answers else ()

    def fetchone(self) -> Any:
        return next(iter(self), None)

    def fetchall(self) -> list[Any]:
        return list(self)

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._answers)


class _Portions:
    """The rows of a cursor of PostgreSQL, some at once (see `Cursor`)."""

    def __init__(self, pipeline: Pipeline, name: str, rows_at_once: int) -> None:
        self._pipeline = pipeline
        self._fetch = f"FETCH FORWARD {rows_at_once} FROM {name}".encode()
        self._close = f"CLOSE {name}".encode()
        self._rows = self._iterate()

    def _iterate(self) -> Iterator[Any]:
        while rows := self._pipeline.send(self._fetch, is_kept=False).fetchall():
            yield from rows

    def close(self) -> None:
        """Nothing more is read."""
        self._pipeline.send(self._close, is_kept=False)

    @property
    def rowcount(self) -> int:
        return -1

    @property
    def description(self) -> Sequence[Sequence[Any]]:
        return ()

    def fetchone(self) -> Any:
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        return list(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows
