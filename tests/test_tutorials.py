"""The tutorial of the modality, followed word for word."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import orjson
import pytest

from support.paths import SEARCH_PATH
from support.processes import ENVIRONMENT, ISOCENTER, free_port, program, run, wait_for_line

DOCS = Path(__file__).parent.parent / "docs"

pytestmark = [pytest.mark.interop("findscu"), pytest.mark.slow]


def blocks_of(page: str) -> tuple[list[str], dict[str, str]]:
    """The indented blocks, and each Python block by the name that it is to be saved as."""
    text = (DOCS / page).read_text("utf-8")
    scripts = dict(
        re.findall(r"save this as\s+`([\w.]+)`:\n\n```python\n(.*?)```", text, re.DOTALL)
    )
    without = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"(?:^(?: {4}.*)?\n)+", without, re.MULTILINE)
    commands = [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip() for block in indented]
    return [block for block in commands if block], scripts


def test_the_day_of_a_modality(tmp_path: Path) -> None:
    serve, *commands = blocks_of("tutorial-modality.md")[0]
    scripts = blocks_of("tutorial-modality.md")[1]
    assert len(commands) == 10
    assert set(scripts) == {"acquire.py"}
    port = str(free_port())
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, words in (("isocenter", ISOCENTER), ("python3", (sys.executable,))):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        tool.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(script, "utf-8")
    path = {**ENVIRONMENT, "PATH": f"{tools}:{SEARCH_PATH}"}
    log = tmp_path / "serve.log"
    words = [*shlex.split(serve), "--port", port]
    assert words[0] == "isocenter"
    said = []
    with program(tools / "isocenter", *words[1:], log=log, cwd=folder, environment=path) as server:
        wait_for_line(server, r"^ready ", log)
        for block in commands:
            typed = f"set -e\nexport PATH={shlex.quote(path['PATH'])}\n" + block.replace(
                "11112", port
            )
            done = run("bash", "-c", typed, cwd=folder)
            # Nothing is scheduled any more: that is an answer, too.
            expected = 1 if "-aet CT_02" in block else 0
            assert done.returncode == expected, f"{block}\n{done.stdout}"
            said.append(done.stdout)
        _added, listed, _kept, dcmtk, _begun, gone, _stored, _promised, _completed, known = said
    assert "SPS1" in listed
    assert "DOE^JANE" in dcmtk
    assert "SPS1" not in gone
    (entry,) = orjson.loads((folder / "entry.json").read_bytes())
    assert entry["patient_name"] == "DOE^JANE"
    for text in ("completed", "COMPLETED", "success", "instance.stored"):
        assert text in known
