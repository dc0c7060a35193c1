"""Who the patients and physicians of these tests are: no line of a log may name them."""

from __future__ import annotations

import logging
import re
from typing import Final

#: Words that are a name of somebody, or a part of one, in some test, and nothing else in any.
NAMES: Final = re.compile(
    r"\b(?:"
    r"aeneas|äneas|bäcker|doe|erika|gildong|jörg|jürgen|mustermann|müller|overby|quixotebaum|"
    r"recommends|roe|rüdiger|tarou|umbrellaschmidt|wanda|weiß|xiaodong|yamada|zenobia"
    r")\b",
    re.IGNORECASE,
)


def named_in(text: str) -> list[str]:
    """The lines of *text* that name somebody."""
    return [line for line in text.splitlines() if NAMES.search(line)]


class Watch(logging.Handler):
    """Keeps what names somebody."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """With the traceback, if there is one."""
        self.lines += named_in(self.format(record))
