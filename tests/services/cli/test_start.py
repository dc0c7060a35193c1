"""What is imported before a command knows what it shall do: that is how long people wait for it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from isocenter.services.cli.commands import COMMANDS
from support.processes import ENVIRONMENT

#: What takes longer than Python itself to start, or than all that is ours.
HEAVY = {
    "aiosqlite", "asyncio", "cryptography", "httpx", "numpy", "OpenSSL", "opentelemetry", "PIL",
    "prometheus_client", "pydicom", "rich", "trio_asyncio",
}  # fmt: skip
#: The index of an archive.
INDEX = {"aiosqlite", "trio_asyncio"}
#: What of it commands below `isocenter.services.cli`, or a folder of them, cannot do without.
NEEDED = {
    "archive": INDEX,
    "archive.backup": {*INDEX, "cryptography"},
    "archive.restore": {*INDEX, "cryptography"},
    "diagnose": {*INDEX, "cryptography", "httpx", "OpenSSL"},
    "files": set(),
    "files.dcmdir": INDEX,
    "scu": set(),
    "security": {*INDEX, "cryptography"},
    "server": INDEX,
    "server.health": {"httpx"},
    "web": set(),
}


@cache
def imported_by(module: str) -> frozenset[str]:
    """What running *module* imports itself; not what its functions do when they are called."""
    origin, _ = place_of(module)
    if origin is None:
        return frozenset()
    tree = ast.parse(origin.read_text())
    return frozenset(name for statement in _run(tree.body) for name in _names(statement))


@cache
def place_of(module: str) -> tuple[Path | None, Path | None]:
    """Its file, and its folder if it is a package."""
    spec = find_spec(module)
    assert spec is not None, module
    folder = next(iter(spec.submodule_search_locations or ()), None)
    return spec.origin and Path(spec.origin), folder and Path(folder)


def _run(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from _run(statement.orelse)
        elif isinstance(statement, ast.If | ast.Try | ast.With | ast.ClassDef):
            for _, part in ast.iter_fields(statement):
                if isinstance(part, list) and all(isinstance(each, ast.stmt) for each in part):
                    yield from _run(part)
                elif isinstance(part, list):
                    for handler in part:
                        yield from _run(getattr(handler, "body", []))
        else:
            yield statement


def _names(statement: ast.stmt) -> Iterator[str]:
    match statement:
        case ast.Import(names=names):
            yield from (each.name for each in names)
        case ast.ImportFrom(module=str(module), names=names):
            yield module
            _, folder = place_of(module) if module.startswith("isocenter") else (None, None)
            for each in names if folder is not None else ():
                if (folder / f"{each.name}.py").exists() or (folder / each.name).is_dir():
                    yield f"{module}.{each.name}"
        case _:
            pass


def imported_at_start(module: str) -> dict[str, str]:
    """All that importing *module* imports, ours and the others' first name: what asks for it."""
    found = {module: ""}
    left = [module]
    while left:
        each = left.pop()
        parts = each.split(".")
        parents = [".".join(parts[:end]) for end in range(2, len(parts))]
        for name in [*parents, *imported_by(each)]:
            name = name if name.startswith("isocenter") else name.partition(".")[0]
            if name not in found and name != "isocenter":
                found[name] = each
                if name.startswith("isocenter"):
                    left.append(name)
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_command_imports_at_its_start_only_what_each_use_of_it_needs(command):
    needed = NEEDED.get(command.module) or NEEDED[command.module.partition(".")[0]]

    found = imported_at_start(f"isocenter.services.cli.{command.module}")

    surplus = {name: found[name] for name in HEAVY & found.keys() - needed}
    assert not surplus, "import it in the function that needs it"
    assert len(found) > 30  # it has seen something


def modules_after(*words: str) -> set[str]:
    code = (
        "import sys; from isocenter.services.cli import main\n"
        f"try: main({list(words)!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT)
    return set(ended.stderr.split())


def test_the_overview_imports_nothing_that_it_does_not_print():
    modules = modules_after("--help")

    assert "isocenter.services.cli.commands" in modules
    assert not modules & {*HEAVY, "trio", "isocenter.engine.pdu", "importlib.metadata", "inspect"}


def test_a_client_starts_without_pydicom_index_and_certificates():
    modules = modules_after("echoscu", "--help")

    assert "isocenter.services.service_classes.client" in modules
    assert not modules & {*HEAVY, "h11", "email", "isocenter.storage.stores"}


def test_the_options_of_a_server_are_told_without_reading_all_of_it():
    modules = modules_after("serve", "--help")

    assert "isocenter.services.settings.options" in modules
    assert not modules & {*HEAVY, "h11", "jinja2", "isocenter.storage.stores"}


def test_a_server_starts_without_pydicom():
    modules = modules_after("serve", "--data-dir", ":memory:", "--no-tls", "--check-config")

    assert "isocenter.storage.stores" in modules
    assert not modules & (HEAVY - NEEDED["server"] - {"asyncio"})
