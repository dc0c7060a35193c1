"""The first line of each module names the thing that it holds, in one short noun phrase."""

from __future__ import annotations

import ast
from collections import Counter
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

#: Wings whose first lines still break the rules, and in how many modules.  The numbers only ever
#: become smaller; a wing that is not named here keeps the rules.
NOT_YET: Final[dict[str, int]] = {
    "engine/buffers.py": 1,
    "engine/commands.py": 1,
    "engine/dataset": 13,
    "engine/deadlines.py": 1,
    "engine/dimse": 5,
    "engine/driving.py": 1,
    "engine/effects.py": 1,
    "engine/errors.py": 1,
    "engine/events.py": 1,
    "engine/fast_init.py": 1,
    "engine/incoming.py": 1,
    "engine/items.py": 1,
    "engine/negotiation.py": 1,
    "engine/waiting.py": 1,
    "services/archive": 23,
    "services/backup": 6,
    "services/cli": 15,
    "services/composition": 7,
    "services/conformance": 3,
    "services/diagnostics": 18,
    "services/dicom": 21,
    "services/integration": 7,
    "services/monitoring": 3,
    "services/security": 27,
    "services/settings": 11,
    "services/workflow": 7,
    "storage/__init__.py": 1,
    "storage/database": 15,
    "storage/inspection.py": 1,
    "storage/objects": 5,
}


def first_lines() -> list[tuple[str, str, str]]:
    """Wing, module and first line of everything under the roots."""
    found = []
    for root, folder in ROOTS.items():
        for path in sorted(folder.rglob("*.py")):
            module = path.relative_to(folder)
            wing = f"{root}/{module.parts[0]}"
            doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            found.append((wing, f"{root}/{module}", doc.partition("\n")[0]))
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
    assert {wing for wing, *_ in lines} >= NOT_YET.keys(), "a wing that is gone"
    broken = [each for each in lines if breaks_a_rule(each[2])]
    more = {
        wing: [f"{module}: {line!r}" for one, module, line in broken if one == wing]
        for wing, count in Counter(wing for wing, *_ in broken).items()
        if count > NOT_YET.get(wing, 0)
    }
    assert not more, "name the thing in at most 14 words, without a question"
