"""What fails below the archive: the peer hears it, the server serves on, nothing is lost."""

from __future__ import annotations

import errno
import http.client
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from durability.faults import (
    ThreadStarted,
    alerts,
    failed_calls,
    failing_calls,
    fill,
    is_running,
    on_own_disk,
    verify_own_disk,
)
from durability.workload import (
    LARGE,
    SUCCESS,
    Item,
    Sender,
    echo,
    findable,
    staged,
    store_one,
)
from isocenter.engine.dimse.message_codec import CStoreRequest
from isocenter.engine.uid import EXPLICIT_VR_LITTLE_ENDIAN
from isocenter.services import composition
from isocenter.services.archive.index.query import Level
from isocenter.services.association.operation import Operation
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import Server, serve
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.net.listeners import ListenAddress
from isocenter.services.service_classes.client import open_association
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.settings.loading import load_settings
from isocenter.storage.database.sqlite import connection as sqlite_connection
from support.outcomes import outcome
from support.processes import (
    ServedArchive,
    isocenter_command,
    served_archive,
    wait_for_line,
    wait_until,
)
from support.raw import raw_peer
from support.serving import port_of
from support.studies import CT_IMAGE_STORAGE

pytestmark = pytest.mark.slow

PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700

STUDY = 1
KIB = 1 << 10


async def verified(archive: ServedArchive | Path, *, code: int = 0) -> str:
    """What `isocenter db verify` prints; it ends with *code*."""
    data_dir = archive.data_dir if isinstance(archive, ServedArchive) else archive
    done = await trio.to_thread.run_sync(
        lambda: isocenter_command("db", "verify", "--data-dir", data_dir)
    )
    assert done.returncode == code, done.stdout
    return done.stdout


async def serves(archive: ServedArchive, *numbers: int) -> None:
    """It answers, and these instances of the study are found, and no others."""
    assert await echo(archive.port) == SUCCESS
    expected = {Item(STUDY, number).uid for number in numbers}
    assert await findable(archive.port, [STUDY]) == expected


# -- Room ------------------------------------------------------------------------------


@pytest.mark.interop("unshare")
@pytest.mark.parametrize(
    ("leave", "size"),
    [
        pytest.param(0, 6_000, id="no room at all"),
        pytest.param(512 * KIB, LARGE, id="not for all of a large object"),
        pytest.param(24 * KIB, 9_000, id="for the object, but not for the index"),
    ],
)
async def test_a_full_disk(tmp_path: Path, leave: int, size: int) -> None:
    with on_own_disk(tmp_path, 16_000) as archive:
        assert await store_one(archive.port, Item(STUDY, 1)) == SUCCESS
        filler = fill(archive.data_dir, leave=leave)
        for number in (2, 3):
            # A study of its own each: the log of the index has to grow for it.
            assert await store_one(archive.port, Item(number, 1, size)) == OUT_OF_RESOURCES
        await serves(archive, 1)
        assert await findable(archive.port, [2, 3]) == set()
        assert len(alerts(archive.log)) == 1
        filler.unlink()
        # It recovers by itself, and nothing is left of what was refused.
        assert await store_one(archive.port, Item(2, 1, size)) == SUCCESS
        assert len(archive.objects()) == 2
        assert "objects are kept again" in archive.log.read_text()
        done = verify_own_disk(archive)
        assert done.returncode == 0, done.stdout
        assert "2 instances, 2 objects" in done.stdout
        assert ", 0 not in the index" in done.stdout


def readiness(archive: ServedArchive) -> int:
    """What a load balancer is answered."""
    address = re.search(r"http://([\d.]+):(\d+)/metrics", archive.log.read_text())
    assert address is not None
    connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=120)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.interop("unshare")
async def test_a_disk_that_fills_is_freed_and_fills_again(tmp_path: Path) -> None:
    """Nobody stores while /ready says 503; it says 200 by itself when there is room again."""

    async def until_ready(status: int) -> None:
        await trio.to_thread.run_sync(
            lambda: wait_until(lambda: readiness(archive) == status, archive.process, 120)
        )

    config = tmp_path / "isocenter.toml"
    config.write_text("[monitoring]\ndisk_critical = 100\ndisk_warning = 99\n")
    with on_own_disk(tmp_path, 20_000, "--config", config) as archive:
        for turn in range(3):
            assert await store_one(archive.port, Item(STUDY, turn + 1)) == SUCCESS
            await until_ready(200)
            # What is kept free is a twentieth of the disk: the index can still be written.
            filler = fill(archive.data_dir, leave=900 * KIB)
            await until_ready(503)
            assert await store_one(archive.port, Item(2, turn + 1)) == OUT_OF_RESOURCES
            assert await echo(archive.port) == SUCCESS
            filler.unlink()
            await until_ready(200)
        await serves(archive, 1, 2, 3)
        assert verify_own_disk(archive).returncode == 0


@pytest.mark.interop("unshare")
async def test_a_read_only_data_directory_stops_the_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    seal = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
    run_by = ["unshare", "-Urm", "sh", "-c", seal, data_dir]
    with (
        pytest.raises(AssertionError, match="Read-only file system; give user") as caught,
        served_archive(tmp_path, run_by=run_by),
    ):
        pass
    assert "ended with 2" in str(caught.value)


# -- Calls that fail -------------------------------------------------------------------


@pytest.mark.interop("strace")
@pytest.mark.parametrize(
    ("calls", "error", "status", "size"),
    [
        pytest.param("write", "EIO", PROCESSING_FAILURE, 600, id="write of an object"),
        pytest.param("write", "ENOSPC", OUT_OF_RESOURCES, 600, id="no room for an object"),
        pytest.param("write", "EIO", PROCESSING_FAILURE, LARGE, id="write of a large object"),
        pytest.param("fsync", "EIO", PROCESSING_FAILURE, LARGE, id="fsync of a large object"),
        pytest.param("fdatasync", "EIO", PROCESSING_FAILURE, 600, id="of journal and index"),
        pytest.param("pwrite64", "EIO", PROCESSING_FAILURE, 600, id="write of journal and index"),
        pytest.param("pwrite64", "ENOSPC", OUT_OF_RESOURCES, 600, id="no room for the journal"),
        pytest.param("link", "EIO", PROCESSING_FAILURE, LARGE, id="link"),
        pytest.param("mkdir", "ENOSPC", OUT_OF_RESOURCES, 600, id="no room for a folder"),
        pytest.param("openat", "EROFS", PROCESSING_FAILURE, 600, id="file system gone read-only"),
        pytest.param("openat", "EMFILE", OUT_OF_RESOURCES, 600, id="out of descriptors"),
    ],
)
async def test_a_call_that_fails(
    tmp_path: Path, calls: str, error: str, status: int, size: int
) -> None:
    for turn in range(20):
        folder = tmp_path / str(turn)
        folder.mkdir()
        # A busy machine lets threads of the server end, and it starts others.
        with suppress(ThreadStarted):
            await while_a_call_fails(folder, calls, error, status, size)
            return
    raise AssertionError("the server starts threads without end")


async def while_a_call_fails(folder: Path, calls: str, error: str, status: int, size: int) -> None:
    with served_archive(folder) as archive:
        assert await store_one(archive.port, Item(STUDY, 1)) == SUCCESS
        with failing_calls(archive, calls, error, folder):
            assert await store_one(archive.port, Item(2, 1, size)) == status
            assert await store_one(archive.port, Item(3, 1, size)) == status
            await serves(archive, 1)
        assert failed_calls(folder)
        assert await findable(archive.port, [2, 3]) == set()
        assert len(alerts(archive.log)) == 1
        assert error_text(error) in alerts(archive.log)[0] or "index" in alerts(archive.log)[0]
        # The fault is over: the same object goes in.
        assert await store_one(archive.port, Item(2, 1, size)) == SUCCESS
        archive.process.send_signal(signal.SIGKILL)
        archive.process.wait()
    with served_archive(folder) as archive:
        await serves(archive, 1)
        assert await findable(archive.port, [2, 3]) == {Item(2, 1).uid}
        assert not staged(archive.data_dir)
        assert ", 0 not in the index" in await verified(archive)


@pytest.mark.interop("strace")
async def test_files_that_cannot_be_synced_are_made_by_the_next_start(tmp_path: Path) -> None:
    """They were acknowledged, and the journal has them until then."""
    numbers = range(1, 25)
    with served_archive(tmp_path) as archive:
        # There is a journal already: to make one its name has to be synced.
        assert await store_one(archive.port, Item(STUDY, 1)) == SUCCESS
        with failing_calls(archive, "syncfs,fsync", "EIO", tmp_path):
            async with raw_peer(archive.port) as peer:
                sender = Sender(peer)
                await sender.associate()
                for number in numbers[1:]:
                    assert await sender.store(Item(STUDY, number)) == SUCCESS
                await peer.release()
            await trio.to_thread.run_sync(
                wait_for_line, archive.process, ".*left to the next start", archive.log
            )
        assert failed_calls(tmp_path)
        await serves(archive, *numbers)
        assert await store_one(archive.port, Item(2, 1)) == SUCCESS
        # As a power failure would: what was not synced is gone, or is something else.
        archive.process.send_signal(signal.SIGKILL)
        archive.process.wait()
        folder = archive.data_dir / "objects" / Item(STUDY, 1).study_uid
        for place, path in enumerate(sorted(folder.rglob("*.dcm"))):
            if place % 3 == 0:
                path.unlink()
            elif place % 3 == 1:
                path.write_bytes(bytes(path.stat().st_size))
    with served_archive(tmp_path) as archive:
        await serves(archive, *numbers)
        assert not staged(archive.data_dir)
        assert ", 0 not in the index" in await verified(archive)


def error_text(name: str) -> str:
    return os.strerror(getattr(errno, name))


async def test_an_index_that_another_process_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_connection, "BUSY_TIMEOUT_SECONDS", 1.0)
    settings = load_settings(environ={}, overrides={"storage.data_dir": str(tmp_path)})
    async with (
        composition.open_archive_parts(settings) as parts,
        trio.open_nursery() as nursery,
    ):
        archive = parts.archive
        registry = composition.build_services(settings, archive, parts.stores, None)
        binds = [ListenAddress(host="127.0.0.1", port=0)]
        server: Server = await nursery.start(
            lambda task_status: serve(registry, binds, task_status=task_status)
        )
        port = port_of(server)
        assert await store_one(port, Item(STUDY, 1)) == SUCCESS
        other = sqlite3.connect(tmp_path / "index.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert await store_one(port, Item(STUDY, 2)) == PROCESSING_FAILURE
        # Who asks does not wait for who writes.
        assert await findable(port, [STUDY]) == {Item(STUDY, 1).uid}
        other.execute("ROLLBACK")
        other.close()
        assert await store_one(port, Item(STUDY, 2)) == SUCCESS
        nursery.cancel_scope.cancel()
    said = [record for record in caplog.records if "objects cannot be kept" in record.message]
    assert len(said) == 1
    assert "locked by another process" in said[0].message
    assert ", 0 not in the index" in await verified(tmp_path)


async def test_deleting_after_a_crash_and_before_a_start(tmp_path: Path) -> None:
    """What is deleted then is whole in the trash, though only the journal has it."""
    with served_archive(tmp_path) as archive:
        async with raw_peer(archive.port) as peer:
            sender = Sender(peer)
            await sender.associate()
            for number in range(1, 6):
                assert await sender.store(Item(STUDY, number)) == SUCCESS
            archive.process.send_signal(signal.SIGKILL)
            archive.process.wait()
    for path in archive.objects():
        path.write_bytes(bytes(path.stat().st_size))

    async def isocenter(*words: object) -> None:
        done = await trio.to_thread.run_sync(
            lambda: isocenter_command(*words, "--data-dir", archive.data_dir)
        )
        assert done.returncode == 0, done.stdout

    study = Item(STUDY, 1).study_uid
    await isocenter("delete", "--study", study, "--reason", "a test", "--yes")
    assert not archive.objects()
    await isocenter("trash", "restore", "--study", study)
    assert "5 instances, 5 objects" in await verified(archive)


# -- A damaged index -------------------------------------------------------------------


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _overwrite_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"not a database".ljust(4096, b"!"))


def _overwrite_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 2 * 4096))


def _remove(path: Path) -> None:
    path.unlink()


async def _three_objects(folder: Path) -> Path:
    """An archive of three objects, whose server stopped; its data directory."""
    with served_archive(folder) as archive:
        for number in (1, 2, 3):
            assert await store_one(archive.port, Item(STUDY, number)) == SUCCESS
        archive.process.terminate()
        assert archive.process.wait() == 0
    return archive.data_dir


async def _reindexed(data_dir: Path, *refused: int) -> None:
    """Do what the messages say: move the index away, rebuild it from the files alone.

    Objects that were *refused* because the index could not take them may be found afterwards:
    without an index nobody can tell that they were not acknowledged.
    """
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (data_dir / name).unlink(missing_ok=True)
    done = isocenter_command("db", "reindex", "--data-dir", data_dir)
    assert done.returncode == 0, done.stdout
    with served_archive(data_dir.parent) as archive:
        found = await findable(archive.port, [STUDY])
        known = {Item(STUDY, number).uid for number in (1, 2, 3)}
        assert known <= found <= known | {Item(STUDY, number).uid for number in refused}
        assert not staged(data_dir)
        assert ", 0 not in the index" in await verified(archive)


@pytest.mark.parametrize("damage", [_shorten, _empty, _overwrite_head, _overwrite_middle, _remove])
async def test_a_damaged_index_is_refused_openly_and_rebuilt(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    data_dir = await _three_objects(tmp_path)
    damage(data_dir / "index.db")
    told = await verified(data_dir, code=1)
    assert "db reindex" in told
    with pytest.raises(AssertionError, match="db reindex"), served_archive(tmp_path):
        pass  # it must not start, and never be an empty archive
    await _reindexed(data_dir)


@pytest.mark.parametrize("damage", [_shorten, _overwrite_middle])
async def test_an_index_that_is_damaged_while_it_is_served(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with served_archive(tmp_path) as archive:
        for number in (1, 2, 3):
            assert await store_one(archive.port, Item(STUDY, number)) == SUCCESS
        # What is in the write-ahead log would hide what happens to the file.
        other = sqlite3.connect(archive.data_dir / "index.db")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        other.close()
        damage(archive.data_dir / "index.db")
        for number in (4, 5):
            assert await store_one(archive.port, Item(STUDY, number)) == PROCESSING_FAILURE
        assert await echo(archive.port) == SUCCESS
        assert is_running(archive.process)
        assert len(alerts(archive.log)) == 1
        assert "damaged" in alerts(archive.log)[0]
        archive.process.kill()
        archive.process.wait()
    await verified(archive.data_dir, code=1)
    await _reindexed(archive.data_dir, 4, 5)


# -- A damaged journal -----------------------------------------------------------------


def _noise(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(3 * 4096))


def _other_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(64))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_shorten, id="cut"),
        pytest.param(_empty, id="empty"),
        pytest.param(_noise, id="noise"),
        pytest.param(_other_head, id="head"),
        pytest.param(lambda path: path.rename(path.with_name("0" * 16 + ".journal")), id="swapped"),
    ],
)
async def test_a_damaged_journal_is_named(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    with served_archive(tmp_path) as archive:
        async with raw_peer(archive.port) as peer:
            sender = Sender(peer)
            await sender.associate()
            for number in range(1, 11):
                assert await sender.store(Item(STUDY, number)) == SUCCESS
            archive.process.send_signal(signal.SIGKILL)
            archive.process.wait()
    (segment,) = (archive.data_dir / "journal").glob("*.journal")
    damage(segment)
    said = await verified(archive, code=1)
    assert re.search(r"^journal: \w+\.journal: ", said, re.MULTILINE), said
    with served_archive(tmp_path) as archive:
        # Nothing was lost but the journal: each object is well, and more can be stored.
        await serves(archive, *range(1, 11))
        assert "is damaged" in archive.log.read_text()
        assert await store_one(archive.port, Item(2, 1)) == SUCCESS
        said = await verified(archive, code=1)
        assert "a start found it damaged" in said
        assert "0 missing, 0 of wrong size, 0 changed" in said
        for path in (archive.data_dir / "journal").glob("*.damaged"):
            path.unlink()
        await verified(archive)


# -- Objects ---------------------------------------------------------------------------


async def test_an_object_file_that_vanished(tmp_path: Path) -> None:
    with served_archive(tmp_path) as archive:
        for number in (1, 2):
            assert await store_one(archive.port, Item(STUDY, number)) == SUCCESS
        next(path for path in archive.objects() if Item(STUDY, 1).uid in path.name).unlink()
        received, failed = await _get(archive.port)
        assert (received, failed) == ({Item(STUDY, 2).uid}, 1)
        told = await verified(archive, code=1)
        assert f"missing: {Item(STUDY, 1).uid}" in told
        # Sent again it is there again; success is never said of a file that is not there.
        assert await store_one(archive.port, Item(STUDY, 1)) == SUCCESS
        assert await _get(archive.port) == ({Item(STUDY, 1).uid, Item(STUDY, 2).uid}, 0)
        await verified(archive)


async def _get(port: int) -> tuple[set[str], int]:
    """What a C-GET of the study brings, and how many sub-operations failed."""
    peer = Peer("ISOCENTER", "127.0.0.1", port)
    received: set[str] = set()

    async def receive(operation: Operation, request: CStoreRequest) -> int:
        async for _ in operation.fragments():
            pass
        received.add(request.affected_sop_instance_uid)
        return SUCCESS

    contexts = [
        (sop_classes.STUDY_ROOT_GET, BASIC_SYNTAXES),
        (CT_IMAGE_STORAGE, BASIC_SYNTAXES),
    ]
    identifier = build_identifier(
        [("StudyInstanceUID", Item(STUDY, 1).study_uid)], Level.STUDY, EXPLICIT_VR_LITTLE_ENDIAN
    )
    async with open_association(peer, contexts, scp_roles=[CT_IMAGE_STORAGE]) as association:
        result = await outcome(association.get(identifier, receive))
    return received, result.failed


async def test_bytes_that_changed_on_disk(tmp_path: Path) -> None:
    data_dir = await _three_objects(tmp_path)
    path = next(data_dir.rglob(f"{Item(STUDY, 2).uid}.dcm"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert f"changed: {Item(STUDY, 2).uid}" in await verified(data_dir, code=1)


async def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """Folders are named by the day, logs by the second; nothing is decided by either."""
    offset = tmp_path / "offset"
    run_by = [sys.executable, Path(__file__).with_name("shifted_clock.py"), offset]
    config = tmp_path / "isocenter.toml"
    config.write_text('[storage]\nnaming = "date"\n')
    day = 86_400
    offset.write_text("0")
    number = 0
    for shift in (400 * day, 0, -400 * day):
        with served_archive(tmp_path, "--config", config, run_by=run_by) as archive:
            for later in (0, -3 * day):  # while it serves, and from one start to the next
                number += 1
                offset.write_text(str(shift + later))
                assert await store_one(archive.port, Item(STUDY, number)) == SUCCESS
                await serves(archive, *range(1, number + 1))
            archive.process.send_signal(signal.SIGKILL)
            archive.process.wait()
    assert ", 0 not in the index" in await verified(archive)
