"""Repositories as they are spoken to: what their files are not is told as a fault of theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.composition.sharing import publisher_opener, source_opener
from isocenter.services.integration.sharing.ports import PublishingError
from isocenter.services.integration.sharing.repository import Protocol, Repository
from isocenter.services.settings.settings import Settings


@pytest.mark.parametrize("protocol", list(Protocol))
@pytest.mark.parametrize("file", ["ca", "token_file"])
async def test_files_that_cannot_be_used_are_faults_of_the_repository(
    tmp_path: Path, protocol: Protocol, file: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes("tök\u00a0en".encode())
    path.chmod(0o600)
    repository = Repository(
        name="regional", protocol=protocol, url="https://127.0.0.1:1/x", source_oid="1.2.3",
        **{file: path},  # type: ignore[arg-type]
    )  # fmt: skip
    for opener in (publisher_opener(Settings()), source_opener(Settings())):
        with pytest.raises(PublishingError, match=r"repository regional: .*file"):
            async with opener(repository):
                raise AssertionError("it was opened")
