"""The three rooms, what each may touch, and that what is public says what it is for."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {room: ROOT / room / "isocenter" / room for room in ("engine", "services", "storage")}

#: Modules of the standard library by which code would touch the world.
WORLDLY = {
    "asyncio", "builtins", "concurrent", "contextvars", "ctypes", "datetime", "fcntl", "glob",
    "http", "importlib", "io", "locale", "logging", "mmap", "multiprocessing", "os", "pathlib",
    "pickle", "platform", "queue", "random", "resource", "sched", "secrets", "select", "selectors",
    "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile",
    "threading", "time", "urllib", "uuid", "warnings", "weakref",
}  # fmt: skip

#: Who may know the adapters: where settings are wired to them, and nobody else.
COMPOSITION_ROOT = ("isocenter.services.composition",)

#: What adapters may know of the services beside modules called ``ports``: the values that stand in
#: the signatures of ports, pure functions on them, and the system calls that both need.
FOR_STORAGE = {
    "isocenter.services.archive.corrections.values",
    "isocenter.services.archive.deletion.records",
    "isocenter.services.archive.index.attributes",
    "isocenter.services.archive.index.matching",
    "isocenter.services.archive.index.names",
    "isocenter.services.archive.index.places",
    "isocenter.services.archive.index.query",
    "isocenter.services.archive.index.shown_values",
    "isocenter.services.archive.index.time_zones",
    "isocenter.services.archive.index_figures",
    "isocenter.services.archive.locks.lock",
    "isocenter.services.archive.metadata.gzip_parts",
    "isocenter.services.archive.rejection.reasons",
    "isocenter.services.archive.orders",
    "isocenter.services.archive.object_keys",
    "isocenter.services.archive.object_location",
    "isocenter.services.archive.retention.rules",
    "isocenter.services.archive.sent_form",
    "isocenter.services.archive.signature_marks.mark",
    "isocenter.services.cluster.fence",
    "isocenter.services.cluster.member",
    "isocenter.services.cluster.worker_names",
    "isocenter.services.archive.tiers.tier",
    "isocenter.services.archive.validation.mark",
    "isocenter.services.concurrency",
    "isocenter.services.dicom.attribute_list",
    "isocenter.services.dicom.object_reader",
    "isocenter.services.errors",
    "isocenter.services.hours",
    "isocenter.services.integration.ai.assessment",
    "isocenter.services.integration.ai.requests",
    "isocenter.services.integration.ai.result_classes",
    "isocenter.services.service_classes.commitment.transaction",
    "isocenter.services.service_classes.mpps.performed_step",
    "isocenter.services.service_classes.ups.events",
    "isocenter.services.service_classes.ups.follow_ups",
    "isocenter.services.service_classes.ups.orders",
    "isocenter.services.service_classes.ups.query",
    "isocenter.services.service_classes.ups.rules",
    "isocenter.services.service_classes.print.job",
    "isocenter.services.service_classes.ups.workitem",
    "isocenter.services.service_classes.worklist.entry",
    "isocenter.services.service_classes.worklist.mpps_following",
    "isocenter.services.service_classes.worklist.query_keys",
    "isocenter.services.system.file_lock",
    "isocenter.services.system.private_files",
    "isocenter.services.workflow.events.event",
    "isocenter.services.workflow.events.stored_events",
    "isocenter.services.workflow.events.study_completion",
    "isocenter.services.workflow.jobs.asker",
    "isocenter.services.workflow.jobs.job",
    "isocenter.services.workflow.nodes.limits",
    "isocenter.services.workflow.nodes.node",
    "isocenter.services.workflow.events.worklist_events",
    "isocenter.services.workflow.reconciliation.values",
    "isocenter.services.workflow.synchronization.comparison",
    "isocenter.services.workflow.tasks.schedule",
    "isocenter.services.workflow.tasks.task",
}


def module_name(path: Path) -> str:
    """``…/engine/isocenter/engine/dimse/status.py`` is ``isocenter.engine.dimse.status``."""
    parts = list(path.with_suffix("").parts)
    parts = parts[len(parts) - parts[::-1].index("isocenter") - 1 :]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(room: str) -> list[Path]:
    return sorted(ROOMS[room].rglob("*.py"))


def all_sources() -> list[Path]:
    return [path for room in ROOMS for path in sources(room)]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that the module imports, wherever in it."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield node.lineno, alias.name
            case ast.ImportFrom():
                start = "." * node.level + (node.module or "")
                base = importlib.util.resolve_name(start, package) if node.level else start
                for alias in node.names:
                    yield node.lineno, f"{base}.{alias.name}"
            case _:
                pass


def is_within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def is_module(name: str) -> bool:
    path = ROOMS["services"].joinpath(*name.split(".")[2:])
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def faults(room: str, is_forbidden: Callable[[str, str], bool]) -> list[str]:
    """Where a module of *room* imports what ``is_forbidden(importer, imported)`` rejects."""
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in imports(path)
        if is_forbidden(module_name(path), name)
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_the_namespace_has_no_init(room: str) -> None:
    """An ``__init__.py`` there hides the other two parts at run time."""
    assert sorted(p.name for p in (ROOT / room).iterdir() if p.suffix == ".py") == []
    assert sorted(p.name for p in (ROOT / room / "isocenter").iterdir() if p.is_file()) == []
    assert (ROOMS[room] / "py.typed").is_file()
    assert sources(room)


def test_the_parts_share_one_namespace() -> None:
    import isocenter

    assert getattr(isocenter, "__file__", None) is None
    for room in ROOMS:
        assert importlib.util.find_spec(f"isocenter.{room}") is not None


def test_the_engine_imports_the_standard_library_only() -> None:
    def is_forbidden(importer: str, name: str) -> bool:
        top = name.partition(".")[0]
        if top == "isocenter":
            return not is_within(name, "isocenter.engine")
        return top not in sys.stdlib_module_names or top in WORLDLY

    assert faults("engine", is_forbidden) == []


def test_the_services_do_not_import_storage() -> None:
    def is_forbidden(importer: str, name: str) -> bool:
        return is_within(name, "isocenter.storage") and not is_within(importer, *COMPOSITION_ROOT)

    assert faults("services", is_forbidden) == []


def test_storage_imports_values_and_ports_of_the_services() -> None:
    def is_forbidden(importer: str, name: str) -> bool:
        if not is_within(name, "isocenter.services"):
            return False
        module = name if is_module(name) else name.rpartition(".")[0]
        return module.rpartition(".")[2] != "ports" and not is_within(module, *FOR_STORAGE)

    assert faults("storage", is_forbidden) == []


def test_only_the_command_line_imports_the_command_line() -> None:
    def is_forbidden(importer: str, name: str) -> bool:
        is_cli = is_within(importer, "isocenter.services.cli")
        return is_within(name, "isocenter.services.cli") and not is_cli

    assert faults("services", is_forbidden) == []
    assert faults("storage", is_forbidden) == []


@pytest.mark.parametrize("path", all_sources(), ids=module_name)
def test_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"), str(path))
    undocumented = [
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and ast.get_docstring(node) is None
    ]
    assert ast.get_docstring(tree), "the module says nothing about itself"
    assert undocumented == []


@pytest.mark.parametrize("path", all_sources(), ids=module_name)
def test_nothing_is_star_imported_or_unexported(path: Path) -> None:
    """Names in ``__all__`` exist, and nobody imports ``*``."""
    tree = ast.parse(path.read_text("utf-8"), str(path))
    assert [line for line, name in imports(path) if name.endswith(".*")] == []
    exported: list[str] = []
    defined: set[str] = set()
    lazy = [  # imported when asked for, and for type checkers under ``if TYPE_CHECKING``
        node
        for branch in tree.body
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in branch.body
    ]
    for node in (*tree.body, *lazy):
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                exported = ast.literal_eval(value)
            case ast.Assign(targets=targets):
                defined |= {t.id for t in targets if isinstance(t, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                defined.add(name)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                defined.add(node.name)
            case ast.Import() | ast.ImportFrom():
                defined |= {a.asname or a.name.partition(".")[0] for a in node.names}
            case _:
                pass
    assert set(exported) - defined == set()
    assert len(exported) == len(set(exported))


def test_what_the_type_checker_is_not_to_see_says_why() -> None:
    """A type that is right beats a comment; where there is none, the next reader has to know."""
    bare = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in all_sources()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"# type: ignore(?!\[[a-z-]+\]  # \w)", line)
    ]
    assert bare == []


def test_an_installed_wheel_holds_what_the_checkout_holds() -> None:
    """A left-over ``build/`` puts modules into the wheel that are no longer in the checkout."""
    import isocenter.services.archive.ports

    home = Path(isocenter.services.archive.ports.__file__).resolve()
    if home.is_relative_to(ROOT / "services"):
        pytest.skip("not installed: the checkout itself is what is imported")
    installed = {
        str(Path(str(file)).relative_to("isocenter"))
        for file in importlib.metadata.files("isocenter") or ()
        if str(file).startswith("isocenter/") and "__pycache__" not in str(file)
    }
    kept = {
        str(path.relative_to(root))
        for root in (ROOT / room / "isocenter" for room in ROOMS)
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert installed == kept, "remove build/ and *.egg-info and build the wheel again"


def documents() -> list[Path]:
    return sorted(
        path
        for path in [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")]
        if not path.is_relative_to(ROOT / "build")
    )


@pytest.mark.parametrize("path", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    relative = [t for t in targets if "://" not in t and not t.startswith("mailto:")]
    assert [t for t in relative if not (path.parent / t).exists()] == []
