"""Standard error of the client commands: single lines, and progress on a terminal."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from isocenter.services.system.log_format import escape

_LOGGER: Final = "isocenter"
_SILENT: Final = logging.CRITICAL + 1

#: Takes how much is done, and of how much (None: nobody knows yet).
Advance = Callable[[int, int | None], None]


class Terminal(logging.Handler):
    """Messages for whoever runs the command; as a context it also shows what is logged.

    What peers and files say in them is escaped: one line stays one line.
    """

    def __init__(self, prog: str, *, quiet: bool, verbose: bool, debug: bool) -> None:
        super().__init__()
        self._prog = prog
        self._quiet = quiet
        self._verbose = (verbose or debug) and not quiet
        self._level = (
            _SILENT
            if quiet
            else logging.DEBUG
            if debug
            else logging.INFO
            if verbose
            else logging.WARNING
        )
        self._before: tuple[list[logging.Handler], int, bool] | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Terminal:
        """As ``-v``, ``-d`` and ``-q`` ask."""
        return cls(
            arguments.prog,
            quiet=arguments.quiet,
            verbose=arguments.verbose,
            debug=arguments.debug,
        )

    @property
    def is_verbose(self) -> bool:
        """Whether `detail` is shown."""
        return self._verbose

    def error(self, text: str) -> None:
        """What went wrong, why, and what to do."""
        self.note(f"{self._prog}: {text}")

    def note(self, text: str) -> None:
        """What everybody wants to know."""
        if not self._quiet:
            print(escape(text), file=sys.stderr)

    def detail(self, text: str) -> None:
        """What ``-v`` shows."""
        if self._verbose:
            self.note(text)

    def emit(self, record: logging.LogRecord) -> None:
        """A line of the log."""
        self.note(f"{record.levelname.lower()}: {record.getMessage()}")

    def __enter__(self) -> Self:
        logger = logging.getLogger(_LOGGER)
        self._before = (logger.handlers[:], logger.level, logger.propagate)
        logger.handlers[:] = [self]
        logger.setLevel(self._level)
        logger.propagate = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logger = logging.getLogger(_LOGGER)
        if self._before is not None:
            logger.handlers[:], logger.level, logger.propagate = self._before

    @contextmanager
    def progress(self, title: str, *, wanted: bool = True) -> Iterator[Advance]:
        """A progress bar, when standard error is a terminal and nobody wants it silent."""
        if not wanted or self._quiet or self._verbose or not sys.stderr.isatty():
            yield lambda done, total: None
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(title, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
