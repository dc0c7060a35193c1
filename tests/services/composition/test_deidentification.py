"""Keys of projects of de-identification: read, made once, and told of where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import (
    Deidentification,
    UnknownProjectError,
)
from isocenter.services.association.peer import Peer
from isocenter.services.composition.deidentification import (
    check_roles,
    open_deidentification,
    warn_of_lost_keys,
)
from isocenter.services.composition.workflow import may_be_told
from isocenter.services.dicom.deidentification.pseudonyms import PseudonymError
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import open_sqlite_stores
from support.deidentification import KEY


def settings_of(tmp_path: Path, key_file: Path | None = None, **environ: str) -> Settings:
    key = "" if key_file is None else f', key_file = "{key_file}"'
    return load_settings(
        environ={
            "ISOCENTER__STORAGE__DATA_DIR": str(tmp_path),
            "ISOCENTER__DEIDENTIFICATION": f'[{{ name = "trial"{key} }}]',
            **environ,
        }
    )


async def uid_of(settings: Settings, name: str = "trial") -> str:
    async with open_sqlite_stores(":memory:") as stores:
        made = open_deidentification(settings, stores, None)
        return await made.uid_of("1.2.3", made.project(name))


async def test_a_key_is_made_once_for_each_project(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    first = await uid_of(settings)
    assert await uid_of(settings) == first
    assert await uid_of(settings, "basic") != first


async def test_a_key_that_is_lost_is_not_made_anew_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a restore of a backup that has none."""
    settings = settings_of(tmp_path)
    async with open_sqlite_stores(":memory:") as stores:
        await warn_of_lost_keys(settings, stores)
        open_deidentification(settings, stores, None)
        await stores.deidentification.add("trial", [("1.2.3", "2.25.1")])
        await warn_of_lost_keys(settings, stores)
        assert not caplog.text
        (tmp_path / "deidentification" / "trial.key").unlink()
        await warn_of_lost_keys(settings, stores)
    assert "the key of the project trial, which has given out 1 UIDs" in caplog.text


async def test_nodes_that_share_an_archive_make_no_keys_of_their_own(tmp_path: Path) -> None:
    shared = {
        "ISOCENTER__DATABASE__URL": "postgresql://127.0.0.1/isocenter",
        "ISOCENTER__OBJECTS__URL": "s3://bucket/objects",
    }
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)).hex().encode())
    key.chmod(0o600)
    with pytest.raises(PseudonymError, match=r"project trial .*key_file"):
        await uid_of(settings_of(tmp_path, **shared))
    assert not (tmp_path / "deidentification").exists()
    assert await uid_of(settings_of(tmp_path, key, **shared)) == await uid_of(
        settings_of(tmp_path, key)
    )
    with pytest.raises(UnknownProjectError):
        await uid_of(settings_of(tmp_path, key, **shared), "basic")


async def test_a_key_that_cannot_be_used_is_told_with_its_project(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for content, message in ((None, "cannot read"), (b"ab", "at least 16 bytes")):
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        with pytest.raises(PseudonymError, match=f"project trial .*{message}"):
            await uid_of(settings_of(tmp_path, path))


def test_a_role_that_nobody_can_have_is_refused() -> None:
    """Whoever was meant would be given originals."""
    settings = load_settings(
        environ={},
        overrides={"deidentification": '[{ name = "trial", roles = ["Viewer", "Reserach"] }]'},
    )
    with pytest.raises(PolicyError, match=r"project trial .* role 'Reserach', and there is none"):
        check_roles(settings, Policy())
    check_roles(settings, Policy(roles={"Reserach": {}}))


async def test_workitems_are_told_to_no_project(tmp_path: Path) -> None:
    async with (
        open_sqlite_stores(":memory:") as stores,
        Archive(MemoryStore(), stores.index) as archive,
    ):
        peers = {name: Peer(ae_title=name, host="10.7.0.5", port=104) for name in ("TRIAL", "RIS")}
        assert may_be_told(archive, peers, "TRIAL")
        archive.deidentification = Deidentification(
            [Project(name="trial", destinations=("TRIAL",))], {"trial": KEY},
            stores.deidentification,
        )  # fmt: skip
        assert not may_be_told(archive, peers, "TRIAL")
        assert may_be_told(archive, peers, "RIS")
        assert not may_be_told(archive, peers, "UNKNOWN")
