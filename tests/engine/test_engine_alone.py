"""`isocenter.engine` needs nothing but Python, and touches nothing of the world.

Each test runs an interpreter of its own: isolated, without site-packages, and with an import
hook that refuses whatever the engine may not have.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import isocenter.engine

ROOT = Path(__file__).resolve().parents[2]
#: The checkout's source root, or the site-packages of an installed wheel.
ENGINE_ROOT = Path(isocenter.engine.__path__[0]).parent.parent
RUN_SECONDS = 180.0

#: What sockets, TLS, threads, logs, other programs and event loops are made of.  `os`, `io` and
#: `time` are not here, since the interpreter itself and `dataclasses` load them;
#: tests/test_layout.py sees to it that no module of the engine names them.
UNTOUCHED = (
    "_asyncio", "_socket", "_ssl", "_sqlite3", "asyncio", "concurrent", "ctypes", "http",
    "logging", "mmap", "multiprocessing", "queue", "random", "sched", "secrets", "select",
    "selectors", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile",
    "threading", "urllib", "uuid",
)  # fmt: skip

#: Runs first in the child: argv[1] is the root, argv[2] the names that are refused.
PRELUDE = """
import sys

root, untouched = sys.argv[1], frozenset(sys.argv[2].split(","))
already = untouched & set(sys.modules)


class Refuse:
    def find_spec(self, name, path=None, target=None):
        top, _, rest = name.partition(".")
        if top == "isocenter":
            is_allowed = rest == "" or rest.split(".")[0] == "engine"
        else:
            is_allowed = top in sys.stdlib_module_names and top not in untouched
        if not is_allowed:
            raise ImportError("REFUSED " + name)
        return None


sys.meta_path.insert(0, Refuse())
sys.path.insert(0, root)
"""

IMPORT_ALL = """
import importlib
import pkgutil

import isocenter.engine

found = [m.name for m in pkgutil.walk_packages(isocenter.engine.__path__, "isocenter.engine.")]
for name in found:
    importlib.import_module(name)
loaded = untouched & set(sys.modules)
assert loaded == already, sorted(loaded - already)
foreign = {
    name.partition(".")[0] for name in sys.modules
} - set(sys.stdlib_module_names) - {"isocenter", "__main__", "__mp_main__"}
print(len(found), sorted(foreign))
"""

CONVERSE = """
import runpy

example = sys.argv[3]
sys.argv = [example, "--chunk", "1000"]
runpy.run_path(example, run_name="__main__")
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c", PRELUDE + script),
            *(str(ENGINE_ROOT), ",".join(UNTOUCHED), *map(str, arguments)),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )


def test_every_module_of_the_engine_imports_without_anything_installed() -> None:
    done = run(IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    count, foreign = done.stdout.strip().split(maxsplit=1)
    modules = set(Path(isocenter.engine.__path__[0]).rglob("*.py"))
    packages = {path.parent for path in modules} - {Path(isocenter.engine.__path__[0])}
    inits = {path for path in modules if path.name == "__init__.py"}
    assert int(count) == len(modules - inits) + len(packages)
    assert foreign == "[]"


def test_two_engines_hold_a_conversation_without_anything_installed() -> None:
    done = run(CONVERSE, ROOT / "examples" / "in_memory_pair.py")
    assert done.returncode == 0, done.stderr
    assert "MessageReceived: CStoreResponse success" in done.stdout
    assert "AssociationReleased" in done.stdout


@pytest.mark.parametrize("name", ["trio", "pydicom", "socket", "ssl", "isocenter.services"])
def test_the_hook_refuses(name: str) -> None:
    """Without this the tests above could pass for nothing."""
    done = run(f"import {name}")
    assert done.returncode != 0
    assert f"REFUSED {name.removesuffix('.ports')}" in done.stderr
