"""A server that publishes by itself, and another archive that fetches what it has shared.

The repository between them is of our own (`support.document_recipient`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import httpx
import pytest
import trio

from services.archive_support import STUDY
from services.cli_support import write_object
from support.document_recipient import DocumentRecipient
from support.ports import free_port
from support.processes import ServedArchive, isocenter_command, served_archive, wait_until
from support.web_archive import Scripted, http_serving

SETTINGS = """
[storage]
data_dir = "{data}"
[web]
port = {port}
[events]
quiet_seconds = 4
[sharing]
patient_authority = "1.2.3.1"
wado_rs = "http://127.0.0.1:{port}/dicomweb"
[[sharing.repositories]]
name = "regional"
mhd = "{url}/fhir"
source_oid = "1.2.3.9"
publish = "complete"
"""


def config(folder: Path, url: str, port: int) -> Path:
    folder.mkdir()
    path = folder / "isocenter.toml"
    path.write_text(SETTINGS.format(data=folder / "data", port=port, url=url))
    return path


async def call(*words: object) -> CompletedProcess[str]:
    done = await trio.to_thread.run_sync(partial(isocenter_command, *words))
    assert done.returncode == 0, done.stdout
    return done


async def until(served: ServedArchive, holds: Callable[[], bool]) -> None:
    await trio.to_thread.run_sync(wait_until, holds, served.process)


@pytest.mark.slow
async def test_a_complete_study_is_published_fetched_elsewhere_and_deprecated_when_deleted(
    tmp_path: Path,
) -> None:
    recipient = DocumentRecipient()
    here, there, port = tmp_path / "here", tmp_path / "there", free_port()
    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2):
        write_object(files, number)
    async with http_serving(Scripted(recipient)) as url:
        with ExitStack() as stack:
            options = ("--config", config(here, url, port), "--http-port", port)
            start = partial(stack.enter_context, served_archive(here, *options))
            served = await trio.to_thread.run_sync(start)
            await call("storescu", f"ISOCENTER@127.0.0.1:{served.port}", files)
            await until(served, lambda: len(recipient.current) == 1)
            elsewhere = ("--config", config(there, url, free_port()))
            other = tmp_path / "other"
            other.mkdir()
            write_object(other, 9, study="1.2.9")
            await call("import", other, *elsewhere)
            await call("node", "add", f"http://127.0.0.1:{port}/dicomweb", *elsewhere)
            listed = await call("shared", "regional", "P1", "--json", *elsewhere)
            (row,) = json.loads(listed.stdout)
            assert row["study"] == STUDY
            fetched = await call(
                "shared", "regional", "P1", "--fetch", row["document"], "--wait", *elsewhere
            )
            assert "2 objects came" in fetched.stdout
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                gone = await client.delete(f"/api/v1/studies/{STUDY}", params={"reason": "wrong"})
            assert gone.status_code == 204, gone.text
            await until(served, lambda: not recipient.current)
            assert len(recipient.references) == 1
