"""`isocenter-engine`: the engine by itself, installed where there is nothing else."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from support.processes import program, wait_for_line

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN_SECONDS = 300.0
#: PEP 517, as pip calls it, by the interpreter of the tests.
BUILD = """
import sys
sys.path.insert(0, ".")
import isocenter_engine_build as backend
print(backend.build_wheel(sys.argv[1]))
"""


def build(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", BUILD, folder],
        cwd=ROOT / "packaging" / "engine",
        check=True,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        env={k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"},
    )
    return folder / done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel, and nothing else: not even pip when it is run."""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, with_pip=False, symlinks=os.name != "nt")
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    line = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps"]
    if shutil.which("uv") and not _has_pip():
        line = ["uv", "pip", "install", "--python", python, "--no-index", "--no-deps"]
    done = subprocess.run(
        [*line, wheel], check=False, capture_output=True, text=True, timeout=RUN_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def _has_pip() -> bool:
    return subprocess.run([sys.executable, "-m", "pip", "--version"], check=False).returncode == 0


def run(python: Path, *line: object) -> str:
    done = subprocess.run(
        [python, "-I", *map(str, line)],
        check=False,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_the_engine_and_its_papers(wheel: Path) -> None:
    assert wheel.name == f"isocenter_engine-{PROJECT['version']}-py3-none-any.whl"
    source = ROOT / "engine"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        in_tree = {
            path.relative_to(source).as_posix(): path.read_bytes()
            for path in source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert {name for name in names if ".dist-info/" not in name} == in_tree.keys()
        assert all(archive.read(name) == data for name, data in in_tree.items())
        metadata = archive.read(f"isocenter_engine-{PROJECT['version']}.dist-info/METADATA")
        record = archive.read(f"isocenter_engine-{PROJECT['version']}.dist-info/RECORD")
    text = metadata.decode()
    assert f"Version: {PROJECT['version']}\n" in text
    assert f"Requires-Python: {PROJECT['requires-python']}\n" in text
    assert "Requires-Dist" not in text
    assert {row[0] for row in csv.reader(io.StringIO(record.decode()))} == names


def test_it_is_the_same_each_time(wheel: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again").read_bytes() == wheel.read_bytes()


def test_whoever_installs_it_has_the_engine_and_nothing_else(python: Path) -> None:
    script = (
        "import importlib.metadata as m, isocenter.engine as e, isocenter.engine.dataset; "
        "print(m.version('isocenter-engine'), len(e.__all__) > 100, "
        "sorted(d.name for d in m.distributions()))"
    )
    assert run(python, "-c", script).split(maxsplit=2) == [
        PROJECT["version"],
        "True",
        "['isocenter-engine']\n",
    ]


def test_the_drivers_run_with_nothing_else_installed(python: Path, tmp_path: Path) -> None:
    """An SCU and an SCP hold a conversation over a socket, in two interpreters of that kind."""
    examples = ROOT / "examples"
    scripts = {name: tmp_path / name for name in ("blocking_scu.py", "selectors_scp.py")}
    for name in (*scripts, "sending.py", "storing.py"):
        shutil.copy(examples / name, tmp_path)
    log = tmp_path / "scp.log"
    scp = [python, scripts["selectors_scp.py"], tmp_path / "received", "--port", 0]
    with program(*scp, log=log) as process:
        port = int(wait_for_line(process, r"^ready 127\.0\.0\.1:(\d+)$", log)[1])
        line = [python, scripts["blocking_scu.py"], "127.0.0.1", str(port)]
        done = subprocess.run(
            line, check=False, capture_output=True, text=True, timeout=RUN_SECONDS
        )
    assert done.stdout == "C-ECHO: 0000H success\n", done.stdout + done.stderr
