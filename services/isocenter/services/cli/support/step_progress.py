"""Progress of work that has several steps: a bar for each."""

from __future__ import annotations

from contextlib import ExitStack

from isocenter.services.cli.support.terminal import Advance, Terminal


class StepProgress:
    """Progress of several steps: a bar for each."""

    def __init__(self, terminal: Terminal, stack: ExitStack) -> None:
        self._terminal = terminal
        self._stack = stack
        self._what = ""
        self._advance: Advance = lambda done, total: None

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what != self._what:
            self._stack.close()
            self._what = what
            self._advance = self._stack.enter_context(self._terminal.progress(what))
            self._terminal.detail(what)
        self._advance(done, total)
