"""The administration API of a served archive, asked as its page says."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import httpx
import pytest

from support.pages import text_of
from support.processes import isocenter_command, served_archive, wait_until


@pytest.mark.interop("curl")
def test_the_lines_of_the_page(tmp_path: Path) -> None:
    """Each curl line of the how-to, at this archive; and what was changed outlasts a restart."""
    page = text_of("docs/how-to/administration-api.md").replace("\\\n", "")
    lines = [line.strip() for line in page.splitlines() if line.startswith("    curl ")]
    assert len(lines) >= 10
    with served_archive(tmp_path) as served:
        root = served.web_url.removesuffix("/dicomweb")
        token = isocenter_command(
            "token", "add", "reporting", "--role", "System", "--data-dir", served.data_dir,
            "--format", "json",
        )  # fmt: skip
        for line in lines:
            for old in ("http://127.0.0.1:8080", "https://archive.example:8443"):
                line = line.replace(old, root)
            line = line.replace("$TOKEN", json.loads(token.stdout)["token"])
            words = ["curl", "--fail", "--silent", "--show-error", *shlex.split(line)[1:]]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=60, check=True)
            assert not done.stdout or json.loads(done.stdout) is not None
    with served_archive(tmp_path) as served:
        root = served.web_url.removesuffix("/dicomweb")
        answer = httpx.get(f"{root}/api/v1/system/config/access.allow")
        assert answer.json()["value"] == ["CT1", "MR1"]
        assert answer.json()["source"].startswith("changed by ")


@pytest.mark.slow
def test_all_workers_use_what_was_changed(tmp_path: Path) -> None:
    """Also those that were not asked; each connection is another worker's."""
    with served_archive(tmp_path, "--workers", 2) as served:
        root = served.web_url.removesuffix("/dicomweb")

        def in_use(key: str) -> set[bool]:
            """Whether the processes that answer use it."""
            answers = [httpx.get(f"{root}/api/v1/system/config/{key}").json() for _ in range(20)]
            assert {one["value"] for one in answers} == {"warning"}
            return {not one["is_pending"] for one in answers}

        body = {"settings": {"log.level": "warning"}}
        answer = httpx.put(f"{root}/api/v1/system/config", json=body)
        assert answer.json()["applied"] == ["log.level"]
        wait_until(lambda: in_use("log.level") == {True}, served.process)
