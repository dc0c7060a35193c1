"""What is removed while a backup is made stays until it has ended."""

from __future__ import annotations

from pathlib import Path

from isocenter.storage.objects.files.removal_hold import RemovalHold
from isocenter.storage.objects.files.store import open_file_store

KEY = "1.2/1.2.3/1.2.3.4.dcm"


async def _store_with(root: Path, *keys: str) -> list[Path]:
    store = await open_file_store(root)
    for key in keys:
        staged = await store.stage()
        await staged.write([key.encode()])
        assert await store.publish([(staged, key)]) == [None]
        await store.settle([staged])
    return [root / "objects" / key for key in keys]


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


async def test_what_is_removed_is_put_aside_while_it_is_taken(tmp_path: Path) -> None:
    (path,) = await _store_with(tmp_path, KEY)
    hold = RemovalHold(tmp_path)
    store = await open_file_store(tmp_path)
    with hold.taken():
        await store.remove([KEY, "1.2/1.2.3/never.dcm"])
        assert not path.exists()
        assert not path.parent.exists()
        (aside,) = hold.files_of(KEY)
        assert _content(aside) == KEY.encode()
        # Another object under the same key, which goes as well.
        await _store_with(tmp_path, KEY)
        await store.remove([KEY])
        assert len(hold.files_of(KEY)) == 2
        assert not hold.files_of("1.2/1.2.3/1.2.3.4")
    assert not (tmp_path / "removed").exists()


async def test_nothing_is_put_aside_without_a_backup(tmp_path: Path) -> None:
    (path,) = await _store_with(tmp_path, KEY)
    with RemovalHold(tmp_path).taken():
        pass
    store = await open_file_store(tmp_path)
    await store.remove([KEY])
    assert not path.exists()
    assert not (tmp_path / "removed").exists()


async def test_two_backups_at_once_and_the_last_one_clears(tmp_path: Path) -> None:
    await _store_with(tmp_path, KEY)
    store = await open_file_store(tmp_path)
    one, other = RemovalHold(tmp_path), RemovalHold(tmp_path)
    with one.taken():
        with other.taken():
            await store.remove([KEY])
        assert one.files_of(KEY)
    assert not (tmp_path / "removed").exists()


async def test_what_a_killed_backup_leaves_goes_with_the_next_removal_or_start(
    tmp_path: Path,
) -> None:
    keys = [KEY, "1.2/1.2.3/1.2.3.5.dcm"]
    await _store_with(tmp_path, *keys)
    removed = tmp_path / "removed"
    store = await open_file_store(tmp_path)

    def leave() -> None:
        removed.mkdir()
        (removed / "1.2,1.2.3,1.2.3.9.dcm+00").write_bytes(b"left")

    async def none_known(keys: object) -> list[bool]:
        return []

    leave()
    await store.remove([KEY])
    assert not removed.exists()
    leave()
    await store.recover(none_known)
    assert not removed.exists()
