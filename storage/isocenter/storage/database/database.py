"""Database handle: all that table adapters need of a database.

A driver (`isocenter.storage.database.sqlite`) implements `Database`; the adapters of tables take
one and hand it functions, each of which is one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, Protocol, Self, TypeVar

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.query_times.ports import ConnectionCounts

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

#: The table whose rows others follow by their numbers.
FOLLOWED: Final = "event"
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
    parameters: tuple[str | int, ...] = ()


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
    parameters: tuple[str | int, ...]
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


class TurnNeededError(Exception):
    """What is to be written is not only about what the transaction has locked."""


class Connection(Protocol):
    """What a function of a table adapter works on, within one transaction.

    Statements are written as `isocenter.storage.database.dialect` says.
    """

    @property
    def has_turn(self) -> bool:
        """Whether nobody else writes; False only within `Database.write_beside`."""
        ...

    def execute(self, statement: str, values: Values = ..., /) -> Cursor: ...

    def executemany(self, statement: str, rows: Iterable[Values], /) -> Cursor: ...

    def ask(self, question: Question) -> Cursor:
        """The rows of *question*; to be read to their end before the next one is asked."""
        ...

    def execute_all(self, statements: Iterable[tuple[str, Iterable[Values]]], /) -> None:
        """Statements of which nobody asks for rows or counts, each with all of its values.

        Each writes a table of its own and reads none that another writes, and in which order they
        are done does not matter: the database may take them as one.
        """
        ...

    def lock(self, names: Iterable[str]) -> None:
        """Have these for itself until the end of the transaction; before anything else, and once.

        Who has the turn has all.
        """
        ...

    def need_turn(self) -> None:
        """From here on nobody else may write.

        Raises:
            TurnNeededError: somebody may; the transaction begins anew when it is its turn.
        """
        ...


class Moment(Protocol):
    """A database as it was at one moment; for one task at a time."""

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """*function* on that moment; cancelling interrupts it."""
        ...

    async def last_numbers(self, tables: Sequence[str]) -> Mapping[str, int]:
        """The highest number that a row of each of these tables has or had; 0: there was none."""
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

    async def note(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `write`, but others may write meanwhile: for rows that nobody else writes, or in one
        statement each."""
        ...

    async def write_beside(
        self,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `write`, but others who come this way may write meanwhile.

        *function* says what it is about (`Connection.lock`), and what of it concerns more than
        that (`Connection.need_turn`).  Then, and where the database finds that two have written
        the same, it is called again when it is its turn.
        """
        ...

    async def write_after(
        self,
        prepare: Callable[[], U | None],
        function: Callable[Concatenate[Connection, U, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | None:
        """As `write_beside`, with what *prepare* gives; with None nothing is written.

        It blocks, and is called before the transaction begins: one hop to a thread for both.
        """
        ...

    def moment(self) -> AbstractAsyncContextManager[Moment]:
        """The database as it is now, for as long as the context lasts; others go on writing."""
        ...

    async def settled_number(self) -> int:
        """Of the rows of `FOLLOWED` up to this number all that will ever be there are there, for
        whoever reads from now on."""
        ...

    async def raise_numbers(self, numbers: Mapping[str, int]) -> None:
        """Rows that come later get higher numbers than these, by their tables."""
        ...

    async def sync(self) -> None:
        """What was written until now survives a power failure from now on, also where `write`
        promises less."""
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

    def connections(self) -> ConnectionCounts:
        """How many connections this process has, and how many of them are in use."""
        ...

    async def aclose(self) -> None:
        """Wait for what runs, then close; further calls raise `StorageError`."""
        ...
