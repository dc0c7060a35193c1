"""Database handle: all that table adapters need of a database.

A driver (`isocenter.storage.database.sqlite`) implements `Database`; the adapters of tables take
one and hand it functions, each of which is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from isocenter.engine.fast_init import dataclass

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: What is bound to the question marks of a statement, or to its names.
Values = Sequence[Any] | Mapping[str, Any]
#: Compares the values of a row in Python (`isocenter.services.archive.index.matching`).
Matcher = Callable[..., bool]


class Candidates(NamedTuple):
    """Rows whose values a matcher may be asked about; for a database that cannot call it.

    Attributes:
        columns: the values that it compares.
        source: FROM.
        condition: WHERE; empty: all rows.
        parameters: what is bound to the question marks of the condition.
    """

    columns: tuple[str, ...]
    source: str
    condition: str = ""
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A statement, what is bound to its question marks, and what ``dicom_matches`` calls.

    Attributes:
        matchers: ``dicom_matches(number, column, …)`` in the text calls the one with the number.
        candidates: of each matcher.
        rows_at_once: so many are worth fetching before the next are asked for, since not all
            may be read; 0: all.
    """

    text: str
    parameters: tuple[str, ...]
    matchers: tuple[Matcher, ...] = ()
    candidates: tuple[Candidates, ...] = ()
    rows_at_once: int = 0


class Cursor(Protocol):
    """The rows of a statement, and how many it changed."""

    @property
    def rowcount(self) -> int: ...

    @property
    def description(self) -> Sequence[Sequence[Any]]:
        """Of each column a sequence that begins with its name (PEP 249)."""
        ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What a function of a table adapter works on, within one transaction.

    Statements are written as `isocenter.storage.database.dialect` says.
    """

    def execute(self, statement: str, values: Values = ..., /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Values], /) -> Cursor: ...

    def ask(self, question: Question) -> Cursor:
        """The rows of *question*; to be read to their end before the next one is asked."""
        ...


class Database(Protocol):
    """Runs functions on connections, each in one transaction; failures are `StorageError`.

    Several tasks may use it at once, and several processes the same database.
    """

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """*function* on one moment of the database, which it does not change.

        Cancelling interrupts it.
        """
        ...

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """*function*, and what it wrote is durable on return; nothing of it is, if it raises.

        Nobody else writes meanwhile.  Cancelling while it waits for its turn does nothing; once
        begun it is brought to its end.
        """
        ...

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """As `write`, with what *prepare* gives; with None nothing is written.

        It blocks, and is called before the transaction begins: one hop to a thread for both.
        """
        ...

    async def check(self) -> Sequence[str]:
        """What is wrong in the files of the database, a line each; reads all of it."""
        ...

    def spare(self) -> AbstractAsyncContextManager[Self]:
        """An empty one with the same tables, which is gone when the context is left."""
        ...

    async def take_over(self, spare: Self, tables: Sequence[str]) -> None:
        """Put the rows of *tables* in *spare* in the place of those here, in one transaction.

        Args:
            tables: those that others refer to last.
        """
        ...

    async def aclose(self) -> None:
        """Wait for what runs, then close; further calls raise `StorageError`."""
        ...
