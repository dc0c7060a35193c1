"""What the README shows, runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from support.processes import run, served_archive

README = Path(__file__).parent.parent / "README.md"


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_the_receiver_is_the_one_of_the_examples() -> None:
    example = README.with_name("examples").joinpath("receiving_scp.py").read_text("utf-8")
    assert example in python_blocks(README)
    assert example in python_blocks(README.with_name("docs") / "how-to" / "receive-objects.md")


def test_the_guide_to_services_has_the_examples() -> None:
    folder, page = README.with_name("examples"), README.with_name("docs") / "how-to"
    text = (page / "write-a-service.md").read_text("utf-8")
    for name in ("own_service.py", "plugin/pyproject.toml", "plugin/acme_raw_data.py"):
        assert f"\n{(folder / name).read_text('utf-8')}```" in text


@pytest.mark.slow
def test_the_example_in_python(tmp_path: Path) -> None:
    block = python_blocks(README)[0]
    with served_archive(tmp_path) as archive:
        script = tmp_path / "example.py"
        script.write_text(block.replace("11112", str(archive.port)), "utf-8")
        done = run(sys.executable, script)
        assert (done.returncode, done.stdout) == (0, "0000\n"), done.stdout


def test_its_two_commands_are_the_ones_that_ci_runs() -> None:
    text = README.read_text("utf-8")
    assert "python3 -m pip install . && isocenter serve" in text
    assert "python3 -m pip install tox && python3 -m tox" in text
