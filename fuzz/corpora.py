"""Where the corpora, dictionaries and findings of the targets are."""

from __future__ import annotations

import ast
import importlib
import re
import string
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bounds import Run

HERE: Final = Path(__file__).resolve().parent
CORPUS: Final = HERE / "corpus"
FINDINGS: Final = HERE / "findings"
_GROWN: Final = re.compile(r"[0-9a-f]{16,40}")
#: Inputs by name.
Seeds = dict[str, bytes]
#: Written as they are in a dictionary.
_PLAIN: Final = frozenset(f"{string.ascii_letters}{string.digits} .-_*".encode())
TARGETS: Final = tuple(sorted(path.stem for path in (HERE / "targets").glob("*.py")))


def run_of(name: str) -> Run:
    """What runs one input of a target."""
    run: Run = importlib.import_module(f"targets.{name}").run
    return run


def files(folder: Path) -> list[Path]:
    """The inputs in *folder*, the same order everywhere; none where there is no folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def inputs(name: str) -> Iterator[Path]:
    """The corpus of a target, then its findings."""
    yield from files(CORPUS / name)
    yield from files(FINDINGS / name)


def is_grown(path: Path) -> bool:
    """Whether fuzzing found this input; seeds have names that people gave them."""
    return _GROWN.fullmatch(path.name) is not None


def dictionary_of(name: str) -> Path:
    return HERE / f"{name}.dict"


def write_words(words: Iterable[bytes]) -> str:
    """The text of a dictionary, as libFuzzer reads it: one quoted word in each line."""
    lines = (
        "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02X}" for byte in word)
        for word in sorted(set(words))
    )
    return "".join(f'"{line}"\n' for line in lines)


def read_words(name: str) -> tuple[bytes, ...]:
    """The words of a target's dictionary."""
    text = dictionary_of(name).read_text("ascii")
    return tuple(ast.literal_eval(f"b{line}") for line in text.splitlines())
