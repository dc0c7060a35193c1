"""The tutorials, followed word for word."""

from __future__ import annotations

import re
import shlex
import sys
import time
from pathlib import Path

import orjson
import pytest
from pydicom import dcmread

from support.paths import SEARCH_PATH
from support.ports import free_port
from support.processes import (
    ENVIRONMENT,
    ISOCENTER,
    RUN_SECONDS,
    program,
    run,
    wait_for_line,
    wait_for_port,
)
from support.studies import write_studies

DOCS = Path(__file__).parent.parent / "docs"

pytestmark = [pytest.mark.interop("findscu", "storescp"), pytest.mark.slow]


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


def test_five_minutes(tmp_path: Path) -> None:
    """But for pip, on ports of this test, and with a viewer of DCMTK."""
    blocks = blocks_of("tutorial/getting-started.md")[0]
    (first, _printed, echo, store, find, get, serve, move, issue, secure, withdraw) = blocks
    files = write_studies(tmp_path / "in", studies=1)
    study = str(dcmread(files[0]).StudyInstanceUID)
    ports = {name: str(free_port()) for name in ("11112", "11113", "2762")}
    places = {
        "/path/to/your/files": str(tmp_path / "in"),
        "StudyInstanceUID=UID": f"StudyInstanceUID={study}",
    }

    def here(text: str) -> list[str]:
        for there, place in (ports | places).items():
            text = text.replace(there, place)
        program_name, *words = shlex.split(text)
        assert program_name == "isocenter"
        return words

    def type_in(text: str) -> str:
        done = run(*ISOCENTER, *here(text), cwd=tmp_path)
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    pip, first_serve = first.splitlines()
    assert pip == "python3 -m pip install ."
    places_of_ours = (
        "--port", ports["11112"], "--tls-host", "127.0.0.1", "--tls-port", ports["2762"],
        "--monitoring-port", "0",
    )  # fmt: skip
    log = tmp_path / "serve.log"
    with program(*ISOCENTER, *here(first_serve), *places_of_ours, log=log, cwd=tmp_path) as server:
        wait_for_line(server, r"^ready dicom://.* dicom-tls://", log)
        type_in(echo)
        type_in(store)
        assert study in type_in(find)
        type_in(get)
    assert len(sorted((tmp_path / "came-back").rglob("*.dcm"))) == len(files)
    viewer = ("storescp", "-aet", "VIEWER", "-od", tmp_path / "in", ports["11113"])
    with (
        program(*viewer, log=tmp_path / "viewer.log") as listening,
        program(*ISOCENTER, *here(serve), *places_of_ours, log=log, cwd=tmp_path) as server,
    ):
        wait_for_line(server, r"^ready ", log)
        wait_for_port(listening, int(ports["11113"]), tmp_path / "viewer.log")
        type_in(move)
        type_in(issue)
        type_in(secure)
        for line in withdraw.splitlines():
            type_in(line)
        # The server reads it within a moment.
        deadline = time.monotonic() + RUN_SECONDS
        while (done := run(*ISOCENTER, *here(secure), cwd=tmp_path)).returncode == 0:
            assert time.monotonic() < deadline, done.stdout
    assert "revoked" in log.read_text("utf-8")


def test_the_day_of_a_modality(tmp_path: Path) -> None:
    serve, *commands = blocks_of("tutorial/modality.md")[0]
    scripts = blocks_of("tutorial/modality.md")[1]
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


def test_what_is_in_this_file(tmp_path: Path) -> None:
    """Each block is typed; what the page shows of its output is in it."""
    text = (DOCS / "tutorial/what-is-in-this-file.md").read_text("utf-8")
    parts = re.findall(
        r"((?:^ {4}\S[^\n]*\n)+)|^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert len([typed for typed, _ in parts if typed]) == 12
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, words in (("isocenter", ISOCENTER), ("python3", (sys.executable,))):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        tool.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    said = ""
    for typed, shown in parts:
        if typed:
            lines = re.sub(r"^ {4}", "", typed, flags=re.MULTILINE)
            path = f"export PATH={shlex.quote(f'{tools}:{SEARCH_PATH}')}"
            done = run("bash", "-c", f"set -e\n{path}\n{lines}", cwd=folder)
            assert done.returncode == 0, f"{typed}\n{done.stdout}"
            said = done.stdout
            continue
        for line in shown.splitlines():
            assert line in said.splitlines(), f"{line}\n{said}"
    assert (folder / "ct.dcm.bak").stat().st_size == (folder / "cut.dcm").stat().st_size + 34206
    before, after = (dcmread(folder / name) for name in ("ct.dcm", "back.dcm"))
    assert before.PixelData == after.PixelData
    assert before.PatientID == "4711"


def test_two_archives(tmp_path: Path) -> None:
    first, second, *commands = blocks_of("tutorial/two-archives.md")[0]
    files = write_studies(tmp_path / "in", studies=2)
    study = str(dcmread(files[0]).StudyInstanceUID)
    tools = tmp_path / "tools"
    tools.mkdir()
    tool = tools / "isocenter"
    tool.write_text(f'#!/bin/sh\nexec {shlex.join(ISOCENTER)} "$@"\n')
    tool.chmod(0o755)
    places = {name: str(free_port()) for name in ("11112", "11113", "8080", "8081")}
    places |= {"/path/to/your/files": str(tmp_path / "in"), "--study UID": f"--study {study}"}
    environment = {**ENVIRONMENT, "PATH": f"{tools}:{SEARCH_PATH}"}

    def here(text: str) -> str:
        for there, place in places.items():
            text = text.replace(there, place)
        return text

    def type_in(block: str) -> str:
        typed = f"set -e\nexport PATH={shlex.quote(environment['PATH'])}\n{here(block)}"
        done = run("bash", "-c", typed, cwd=tmp_path)
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        return done.stdout

    def jobs_done() -> int:
        """When no job is under way any more: how many are completed."""
        deadline = time.monotonic() + RUN_SECONDS
        listed = "isocenter jobs list --json --data-dir ./second"
        while True:
            jobs = [orjson.loads(line) for line in type_in(listed).splitlines() if line]
            jobs = jobs[0] if jobs and isinstance(jobs[0], list) else jobs
            if all(job["state"] in ("completed", "failed", "cancelled") for job in jobs):
                assert {job["state"] for job in jobs} == {"completed"}, jobs
                return len(jobs)
            assert time.monotonic() < deadline, jobs

    logs = tmp_path / "first.log", tmp_path / "second.log"
    with (
        program(*ISOCENTER, *shlex.split(here(first))[1:], log=logs[0], cwd=tmp_path) as one,
        program(*ISOCENTER, *shlex.split(here(second))[1:], log=logs[1], cwd=tmp_path) as other,
    ):
        wait_for_line(one, r"^ready ", logs[0])
        wait_for_line(other, r"^ready ", logs[1])
        store, node, add, ask, listed, again, delete, conflicts, resolve = commands
        type_in(store)
        assert "online" in type_in(node)
        type_in(add)
        said = type_in(ask)
        assert "would be: 2 to be retrieved" in said
        assert "completed: 2 to be retrieved" in said
        type_in(listed)
        assert jobs_done() == 2
        assert "completed: 2 alike" in type_in(again)
        assert "1 alike, 1 conflicts" in type_in(delete)
        assert study in type_in(conflicts)
        type_in(resolve)
        assert jobs_done() == 3
        assert "completed: 2 alike" in type_in(again)
