"""Every row of the threat model names tests, and they are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "threat-model.md"
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
COMPONENTS = {
    "Listener", "TLS", "Engine", "DIMSE services", "Index", "Object store",
    "Command line and settings", "Logs", "Audit trail", "Supply chain",
}  # fmt: skip
LETTERS = "STRIDE"


def sections() -> dict[str, list[list[str]]]:
    """Component → its rows, as cells; the header of the table left out."""
    found: dict[str, list[list[str]]] = {}
    for part in re.split(r"(?m)^## ", PAGE.read_text())[1:]:
        title, _, text = part.partition("\n")
        rows = [
            [cell.strip() for cell in line.strip("| ").split(" | ")]
            for line in text.splitlines()
            if line.startswith("| ") and not line.startswith(("| | ", "| ---"))
        ]
        if "guarded by" in text:
            found[title] = rows
    return found


@cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_component_is_there() -> None:
    assert sections().keys() >= COMPONENTS


@pytest.mark.parametrize("component", sections())
def test_every_row_names_a_threat_an_answer_and_tests_that_exist(component: str) -> None:
    rows = sections()[component]
    assert rows
    for row in rows:
        assert len(row) == 4, row
        letter, threat, answer, guards = row
        assert letter in LETTERS, row
        assert threat, row
        assert answer, row
        named = TEST.findall(guards)
        assert named, f"no test guards: {threat}"
        assert TEST.sub("", guards).replace(",", "").strip() == "", row
        for path, name in named:
            assert (ROOT / path).is_file(), f"{path} is gone"
            assert name.startswith("test_"), name
            assert name in names_in(path), f"{path} has no {name}"


def test_each_question_is_asked_somewhere_and_each_component_answers_several() -> None:
    for component, rows in sections().items():
        letters = {row[0] for row in rows}
        assert len(letters) >= 3, f"{component}: {letters}"
    assert {row[0] for rows in sections().values() for row in rows} == set(LETTERS)


def test_the_page_of_limits_is_linked_and_not_repeated() -> None:
    assert "](denial-of-service.md)" in PAGE.read_text()
    assert "Limits." not in PAGE.read_text()
