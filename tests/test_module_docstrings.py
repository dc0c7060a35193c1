"""The first line of each module names the thing that it holds, in one short noun phrase."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
ROOTS: Final = {
    "engine": ROOT / "engine" / "isocenter" / "engine",
    "services": ROOT / "services" / "isocenter" / "services",
    "storage": ROOT / "storage" / "isocenter" / "storage",
}
MOST_WORDS: Final = 14
#: Who begins so tells what a module is for, and not what it is.
QUESTIONS: Final = frozenset({"What", "Who", "Whether", "Which", "How", "When", "Until", "Where"})


def first_lines() -> list[tuple[str, str]]:
    """Module and first line of everything under the roots."""
    found = []
    for root, folder in ROOTS.items():
        for path in sorted(folder.rglob("*.py")):
            module = path.relative_to(folder)
            doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            found.append((f"{root}/{module}", doc.partition("\n")[0]))
    return found


def breaks_a_rule(line: str) -> bool:
    words = line.split()
    return not words or len(words) > MOST_WORDS or words[0].rstrip(",:") in QUESTIONS


def test_the_rules_tell_good_lines_from_others() -> None:
    assert not breaks_a_rule("Hash chain of audit records: changes are detected.")
    assert breaks_a_rule("")
    assert breaks_a_rule("What, beside others, is meant.")
    assert breaks_a_rule(" ".join(["word"] * (MOST_WORDS + 1)))
    assert not breaks_a_rule(" ".join(["word"] * MOST_WORDS))


def test_modules_are_named_in_their_first_lines() -> None:
    lines = first_lines()
    assert len(lines) > 300
    broken = [f"{module}: {line!r}" for module, line in lines if breaks_a_rule(line)]
    assert not broken, "name the thing in at most 14 words, without a question"
