"""The reference pages in the documentation are what tables and docstrings give."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest

import isocenter.engine
import isocenter.engine.dataset
import isocenter.services
from isocenter.engine import Limits
from isocenter.engine.dimse import MESSAGES

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "api_reference.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("api_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = load()


@pytest.mark.parametrize("page", reference.PAGES)
def test_the_committed_page_is_what_the_tables_give(page: str) -> None:
    committed = (SCRIPT.parent / page).read_text("utf-8")
    assert committed == reference.PAGES[page](), f"run {reference.MAKE}"


def test_every_message_has_its_section() -> None:
    page = reference.messages_page()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        f"## {rule.name}" for rule in MESSAGES
    ]


def test_every_limit_has_a_reason() -> None:
    rows = [line for line in reference.limits_page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(fields(Limits))
    for row, field in zip(rows, fields(Limits), strict=True):
        _, name, default, reason, _ = row.split("|")
        assert name.strip() == f"`{field.name}`"
        assert int(default.replace(",", "")) == field.default
        assert len(reason.split()) > 3


@pytest.mark.parametrize("module", [isocenter.engine, isocenter.engine.dataset, isocenter.services])
def test_every_public_name_is_explained(module: ModuleType) -> None:
    page = reference.PAGES[f"reference/{module.__name__.rpartition('.')[2]}.md"]()
    sections = {section.partition("\n")[0]: section for section in re.split(r"(?m)^##+ ", page)[1:]}
    in_groups = [name for names in reference.groups(module).values() for name in names]
    assert in_groups == module.__all__
    assert set(module.__all__) <= sections.keys()
    for name in module.__all__:
        _, signature, words = sections[name].split("```", 2)
        assert name in signature
        # Unions of what is explained elsewhere need no words of their own.
        assert words.strip() or signature.startswith(f"python\n{name} = "), name


def test_names_are_links_to_their_sections() -> None:
    for file, page in reference.PAGES.items():
        if file.startswith("reference/"):
            text = page()
            headings = {line.lstrip("# ").lower() for line in re.findall(r"(?m)^##+ .*", text)}
            assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


def test_what_is_called_looks_so() -> None:
    page = reference.services_page()
    assert "async with open_association(\n" in page
    assert ") -> ClientAssociation\n" in page
    assert "\nawait ClientAssociation.echo() -> int\n" in page
    assert "\nawait DicomObject.from_file(path: str | Path) -> DicomObject\n" in page
    assert "\nDicomObject.from_dataset(dataset: pydicom.Dataset) -> DicomObject\n" in page
    # Nothing that is another with each run.
    assert " at 0x" not in page


def test_every_member_of_the_services_is_explained() -> None:
    bare = re.findall(r"```python\n([^`]*?)```\n\n(?=```python|##|\Z)", reference.services_page())
    assert [one for one in bare if " = " not in one] == []
