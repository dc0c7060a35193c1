"""What the wheel and the image are made of: fixed, told, and the same each time."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = ROOT / "packaging" / "requirements.lock"
_PACKAGE = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


#: What is in the image beside what every installation needs.
LOCKED_EXTRAS = ("cloud", "hl7", "identity", "postgres")
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(one for extra in LOCKED_EXTRAS for one in PROJECT["optional-dependencies"][extra]),
]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


# -- The lock ----------------------------------------------------------------------------


def test_every_dependency_is_locked_at_a_version_that_is_allowed() -> None:
    locked = {normal(name): version for name, version in _PACKAGE.findall(LOCK.read_text())}
    for requirement in REQUIREMENTS:
        name, lowest = re.fullmatch(
            r"([A-Za-z0-9._-]+)(?:\[\w+\])?>=([\d.]+)", requirement
        ).groups()  # type: ignore[union-attr]
        assert normal(name) in locked, f"{name} is not locked; run tox -e lock"
        assert numbers(locked[normal(name)]) >= numbers(lowest), f"run tox -e lock for {name}"


@pytest.mark.parametrize("name", ["requirements.lock", "build-requirements.lock"])
def test_every_locked_package_has_hashes_and_no_place_of_its_own(name: str) -> None:
    text = (LOCK.parent / name).read_text()
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    assert blocks
    for block in blocks:
        assert _PACKAGE.match(block), block
        assert "--hash=sha256:" in block, block
    assert "--index-url" not in text
    assert "://" not in text


def test_the_extras_of_the_image_are_those_that_tox_locks() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    assert re.findall(r"--extra (\S+)", parser["testenv:lock"]["commands"]) == [*LOCKED_EXTRAS]


# -- The wheel ---------------------------------------------------------------------------


def source_tree(folder: Path) -> Path:
    """What a wheel is built from, as somebody else has it."""
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("packaging", "engine", "services", "storage"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    return folder


def build(tree: Path, out: Path, *, umask: int, environment: dict[str, str]) -> Path:
    """A wheel, by the backend that pyproject.toml names."""
    out.mkdir()
    system = tomllib.loads((tree / "pyproject.toml").read_text())["build-system"]
    code = (
        f"import os, sys; os.umask({umask}); sys.path[:0] = {system['backend-path']!r}; "
        f"import {system['build-backend']} as backend; print(backend.build_wheel(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        check=False, cwd=tree, env={**os.environ, **environment}, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two, from two copies of the source: other times, modes, leftovers and time zone."""
    folder = tmp_path_factory.mktemp("wheels")
    first = source_tree(folder / "first")
    second = folder / "second"
    shutil.copytree(first, second)
    stale = second / "build" / "lib" / "isocenter" / "engine"
    stale.mkdir(parents=True)
    (stale / "stale.py").write_text("raise SystemExit('of an earlier build')\n")
    for path in second.rglob("*.py"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o600)
    return (
        build(first, folder / "1", umask=0o022, environment={"TZ": "UTC"}),
        build(second, folder / "2", umask=0o077, environment={"TZ": "Asia/Tokyo"}),
    )


def test_the_wheel_is_the_same_byte_for_byte(wheels: tuple[Path, Path]) -> None:
    first, second = wheels
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_its_times_are_those_of_the_source_if_somebody_tells(tmp_path: Path) -> None:
    tree = source_tree(tmp_path / "source")
    told = {"SOURCE_DATE_EPOCH": "1700000000"}
    wheel = build(tree, tmp_path / "out", umask=0o022, environment=told)
    with zipfile.ZipFile(wheel) as archive:
        assert {info.date_time for info in archive.infolist()} == {(2023, 11, 14, 22, 13, 20)}


def test_its_record_names_every_file_with_its_hash(wheels: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(wheels[0]) as archive:
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = {row[0]: row for row in csv.reader(io.TextIOWrapper(archive.open(record), "utf-8"))}
        assert set(rows) == set(archive.namelist())
        for name in set(rows) - {record}:
            content = archive.read(name)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            assert rows[name][1:] == [f"sha256={digest.decode()}", str(len(content))], name
        assert "isocenter/services/py.typed" in rows
        assert not [name for name in rows if "stale" in name]


# -- The bill of materials ---------------------------------------------------------------


@pytest.fixture(scope="module")
def bill(wheels: tuple[Path, Path]) -> str:
    with zipfile.ZipFile(wheels[0]) as archive:
        (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name)
        return archive.read(name).decode()


def test_the_bill_of_materials_is_cyclonedx(bill: str) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None


def test_the_bill_of_materials_names_everything_that_is_locked(bill: str) -> None:
    parsed: dict[str, Any] = json.loads(bill)
    named = {(one["name"], one["version"]) for one in parsed["components"]}
    locked = {(normal(name), version) for name, version in _PACKAGE.findall(LOCK.read_text())}
    assert named == locked
    assert parsed["metadata"]["component"]["version"] == PROJECT["version"]


def test_the_bill_of_materials_tells_what_needs_what(bill: str) -> None:
    parsed: dict[str, Any] = json.loads(bill)
    needs = {one["ref"]: set(one["dependsOn"]) for one in parsed["dependencies"]}
    root = parsed["metadata"]["component"]["bom-ref"]
    direct = {purl.partition("@")[0].removeprefix("pkg:pypi/") for purl in needs[root]}
    assert direct == {
        normal(requirement.partition(">=")[0].partition("[")[0]) for requirement in REQUIREMENTS
    }
    reached, todo = set(), [root]
    while todo:
        reached.add(one := todo.pop())
        todo += needs[one] - reached
    assert reached == set(needs), "nothing is in it that nothing needs"


# -- Known vulnerabilities ---------------------------------------------------------------


def test_the_audit_fails_where_it_could_not_look() -> None:
    """An index that cannot be asked, or does not know a package, must not look like all is well."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "tox.ini")
    command = parser["testenv:audit"]["commands"].split()
    assert command[0] == "pip-audit"
    assert {"--strict", "--require-hashes", "packaging/requirements.lock"} <= set(command)
    assert not [word for word in command if word.startswith("-") and "ignore" in word]
    assert not parser.has_option("testenv:audit", "ignore_errors")
    assert not parser.has_option("testenv:audit", "ignore_outcome")
