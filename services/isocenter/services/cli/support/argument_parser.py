"""Argument parser of a command: options between paths, an exit code of its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NoReturn


class CommandParser(argparse.ArgumentParser):
    """Reads the arguments of a command, or of one of its actions.

    Attributes:
        is_intermixed: whether options may stand between the positional arguments, as DCMTK's users
            put them; a parser with actions of its own cannot have it.
        exit_code_of_errors: of wrong arguments, where it is another than that of most commands.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_intermixed = False
        self.exit_code_of_errors: int | None = None
        self._is_reading = False

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As the base class does; what reads all arguments, and those of an action, comes here."""
        if not self.is_intermixed or self._is_reading:
            return super().parse_known_args(args, namespace)
        self._is_reading = True  # what reads intermixed arguments comes here for each kind
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_reading = False

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end."""
        if self.exit_code_of_errors is None:
            super().error(message)
        self.print_usage(sys.stderr)
        self.exit(self.exit_code_of_errors, f"{self.prog}: {message}\n")
