"""The pages of the documentation as data: command lines, code, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PAGES: Final = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(DOCS.rglob("*.md")),
)

_FENCED: Final = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^ *```$")
_PROMPT: Final = re.compile(r"^(\$ |! )?(sudo -u \w+ )?(python3? -m )?")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One command line of ours on a page.

    Attributes:
        is_whole: it stands in a block, to be typed; False: in a sentence, maybe in part.
    """

    page: str
    text: str
    is_whole: bool


def name_of(page: Path) -> str:
    """As it is shown: ``docs/how-to/audit.md``."""
    return page.relative_to(ROOT).as_posix()


def text_of(name: str) -> str:
    """A page by its name below the root of the checkout."""
    return (ROOT / name).read_text("utf-8")


def fenced(text: str, language: str) -> list[str]:
    """The blocks between ``` of a language."""
    return [body for _, of, body in _FENCED.findall(text) if of == language]


def prose(text: str) -> str:
    """The page without its blocks between ```."""
    return _FENCED.sub("", text)


def code_in(text: str) -> list[str]:
    """What stands between back quotes in sentences and tables."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The rows of the table whose first line begins with *heading*, as cells."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(heading):
            next(lines)
            break
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
    return rows


def command_lines() -> Iterator[CommandLine]:
    """Every command line of ours on every page."""
    for page in PAGES:
        text, name = page.read_text("utf-8"), name_of(page)
        blocks = [body for _, _, body in _FENCED.findall(text)]
        blocks += re.findall(r"(?m)^ {4,}(?![-*|]).*(?:\n {4,}.*)*", prose(text))
        for block in blocks:
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                yield from (CommandLine(name, part, True) for part in _ours(line.strip()))
        for code in code_in(text):
            yield from (CommandLine(name, part, False) for part in _ours(code))


def _ours(line: str) -> Iterator[str]:
    for part in [*re.split(r" (?:&&|\|) ", line), *re.findall(r"\$\(([^)]*)\)", line)]:
        command = _PROMPT.sub("", part.strip())
        if re.match(r"isocenter( |$)", command):
            yield command
