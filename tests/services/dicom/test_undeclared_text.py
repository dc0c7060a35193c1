"""Text beyond ASCII for which no character set is declared, or one that nobody knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set, write_file_meta
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.index.query import Level, Query
from isocenter.services.archive.reindexing import reindex
from isocenter.services.association.peer import Peer
from isocenter.services.cli import main
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.find_scp import FindScp
from isocenter.services.service_classes.query_retrieve.information_models import QueryOptions
from isocenter.services.service_classes.storage.scp import StorageScp
from isocenter.services.service_classes.worklist.query_keys import parse_keys
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.files.store import open_file_store
from isocenter.storage.objects.memory import MemoryStore
from services.archive_support import CT, data_set_of, opened, store, uid
from support.serving import port_of, serving

Output = pytest.CaptureFixture[str]

CYRILLIC = ("ISO_IR 144",)
#: A name in ISO_IR 144, and what ISO_IR 100 makes of it.
RAW, NAME, WRONG = b"\xbb\xee\xda^\xce ", "Люк^Ю", "»îÚ^Î"
PATIENT_NAME = 0x0010_0010


def image(number: int, name: bytes = RAW, declared: bytes | None = None) -> bytes:
    elements = [
        (0x0008_0016, "UI", CT.encode()),
        (0x0008_0018, "UI", uid(number).encode()),
        (PATIENT_NAME, "PN", name),
        (0x0010_0020, "LO", f"ID{number}".encode()),
        (0x0020_000D, "UI", f"1.2.{number}".encode()),
        (0x0020_000E, "UI", f"1.2.{number}.1".encode()),
    ]
    if declared is not None:
        elements.insert(0, (0x0008_0005, "CS", declared))
    return write_data_set(elements, EXPLICIT_LITTLE)


async def names(archive: Archive) -> list[str]:
    """Of all patients, as the index has them."""
    async with archive.index.find(
        Query(level=Level.PATIENT, return_tags=(PATIENT_NAME,))
    ) as blocks:
        return [match[PATIENT_NAME] async for block in blocks for match in block]


@pytest.mark.parametrize("declared", [None, b"", b"ISO_IR 6 ", b"WINDOWS-1251", b"ISO_IR 999"])
@pytest.mark.parametrize("undeclared", [(), CYRILLIC])
async def test_what_the_index_keeps(declared: bytes | None, undeclared: tuple[str, ...]) -> None:
    """By the default; what is stored stays as it came."""
    async with opened(MemoryStore(), undeclared=undeclared) as archive:
        data = image(1, declared=declared)
        await store(archive, 1, data)
        stored = (await archive.index.get([uid(1)]))[uid(1)]
        assert await names(archive) == [NAME if undeclared else WRONG]
        assert await data_set_of(archive, stored) == data


@pytest.mark.parametrize(
    ("declared", "raw", "name"),
    [
        (b"ISO_IR 192", "Łódź".encode(), "Łódź"),
        (b"UTF-8 ", "Łódź".encode(), "Łódź"),
        (b"ISO_IR 100", b"M\xfcnch", "Münch"),
        (b"iso8859-1 ", b"M\xfcnch", "Münch"),
        (b"\\ISO 2022 IR 87", b"\x1b$B;3ED\x1b(B", "山田"),
    ],
)
async def test_what_is_declared_counts(declared: bytes, raw: bytes, name: str) -> None:
    async with opened(MemoryStore(), undeclared=CYRILLIC) as archive:
        await store(archive, 1, image(1, raw, declared))
        assert await names(archive) == [name]


async def answers(archive: Archive, undeclared: tuple[str, ...], key: bytes) -> list[bytes]:
    """Names that a C-FIND finds which declares no character set."""
    identifier = write_data_set(
        [
            (0x0008_0052, "CS", b"STUDY "),
            (PATIENT_NAME, "PN", key),
            (0x0010_0020, "LO", b""),
            (0x0020_000D, "UI", b""),
        ],
        EXPLICIT_LITTLE,
    )
    find = FindScp(archive.index, ae_title="US", options=QueryOptions(undeclared=undeclared))
    found = []
    async with serving(StorageScp(archive), find) as server:
        peer = Peer("US", "127.0.0.1", port_of(server))
        context = (sop_classes.STUDY_ROOT_FIND, (EXPLICIT_VR_LITTLE_ENDIAN,))
        async with open_association(peer, [context], calling_ae_title="MODALITY") as association:
            async for match in association.find(identifier):
                assert match.SpecificCharacterSet == (CYRILLIC[0] if undeclared else "ISO_IR 192")
                found.append(str(match.PatientName).encode())
    return found


async def test_queries_mean_the_same_and_answers_say_what_they_are() -> None:
    async with opened(MemoryStore(), undeclared=CYRILLIC) as archive:
        await store(archive, 1, image(1))
        await store(archive, 2, image(2, NAME.encode(), b"ISO_IR 192"))
        await store(archive, 3, image(3, b"A^B"))
        for key in (RAW, b"\xdb\xee\xda^\xee", b"\xbb*", b"*^\xce"):
            assert await answers(archive, CYRILLIC, key) == [NAME.encode()] * 2, key
        assert await answers(archive, (), "Люк*".encode()) == []


async def test_the_default_is_applied_again_when_the_index_is_rebuilt(tmp_path: Path) -> None:
    async with opened(await open_file_store(tmp_path / "data")) as archive:
        await store(archive, 1, image(1))
        assert await names(archive) == [WRONG]
    async with opened(
        await open_file_store(tmp_path / "data"), MemoryIndex(), undeclared=CYRILLIC
    ) as archive:
        assert (await reindex(archive)).indexed == 1
        assert await names(archive) == [NAME]


def test_the_worklist_is_asked_the_same_way() -> None:
    identifier = write_data_set([(PATIENT_NAME, "PN", RAW)], EXPLICIT_LITTLE)
    keys = parse_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN, undeclared=CYRILLIC)
    assert keys.character_set == CYRILLIC
    assert parse_keys(identifier, EXPLICIT_VR_LITTLE_ENDIAN).character_set == ()


def test_the_setting(tmp_path: Path, capsys: Output) -> None:
    """From the file to the index and to the answers."""
    config = tmp_path / "config.toml"
    config.write_text('[storage]\ndefault_character_set = "ISO-IR 144"\n')
    settings = load_settings(config, environ={})
    assert settings.storage.undeclared == CYRILLIC
    head = write_file_meta(CT, uid(1), EXPLICIT_VR_LITTLE_ENDIAN)
    (tmp_path / "image").write_bytes(head + image(1))
    where = ["--config", str(config), "--data-dir", str(tmp_path / "data")]
    assert main(["import", *where, str(tmp_path / "image")]) == 0
    with pytest.raises(SettingsError, match="such as ISO_IR 144"):
        load_settings(environ={}, overrides={"storage.default_character_set": "KOI8-R"})
