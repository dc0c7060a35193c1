"""What `isocenter.services` promises to users of the library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import isocenter.services
from isocenter.services.association.server import serve
from isocenter.services.service_classes.client import open_association
from support.processes import ENVIRONMENT


def test_every_public_name_is_there() -> None:
    for name in isocenter.services.__all__:
        assert getattr(isocenter.services, name) is not None
    assert isocenter.services.serve is serve
    assert isocenter.services.open_association is open_association
    assert sorted(isocenter.services._MODULES) == sorted(isocenter.services.__all__)
    assert dir(isocenter.services) == sorted(isocenter.services.__all__)


def test_type_checkers_see_the_same_names() -> None:
    source = Path(isocenter.services.__file__).read_text("utf-8")
    imported = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.col_offset
        for alias in node.names
    }
    assert imported == {
        name: module if module.startswith("isocenter.") else f"isocenter.services.{module}"
        for name, module in isocenter.services._MODULES.items()
    }


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        isocenter.services.sing  # noqa: B018


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    script = (
        "import sys, isocenter.services; print('trio' in sys.modules, 'pydicom' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert done.stdout.split() == ["False", "False"]
