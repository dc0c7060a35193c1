"""The place of objects that the settings name: memory, a folder, a bucket."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from isocenter.services.archive.deletion.ports import TrashFiles
from isocenter.services.archive.object_location import ObjectLocation, StoreKind
from isocenter.services.archive.ports import ObjectStore
from isocenter.services.cluster.duties import Duties
from isocenter.services.errors import StorageError, text_of
from isocenter.services.service_classes.print.ports import FILMS, FilmFiles
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import SecretFileError, match_owner, read_secret
from isocenter.storage.objects.files.store import FileStore, open_file_store
from isocenter.storage.objects.files.trash import TrashFolder
from isocenter.storage.objects.films import FolderFilms, MemoryFilms
from isocenter.storage.objects.memory import MemoryStore
from isocenter.storage.stores import Stores

if TYPE_CHECKING:
    from isocenter.storage.objects.cloud.bucket import Bucket
    from isocenter.storage.objects.cloud.encryption import MasterKeys

INSTALL: Final = "pip install 'isocenter[cloud]'"
#: In the data directory: where its objects are, if not there.
_MARK: Final = "objects.url"


class Place(Protocol):
    """Where objects are, before there is a database."""

    @property
    def has_unique_keys(self) -> bool:
        """Whether each object needs a key that no other has or had, and a note of it."""
        ...

    def store(self, stores: Stores) -> ObjectStore: ...

    def trash(self, store: ObjectStore, duties: Duties) -> TrashFiles | None: ...

    def films(self) -> FilmFiles:
        """Where films of print jobs are."""
        ...

    async def holds_objects(self) -> bool:
        """Whether there is an object.

        Raises:
            StorageError: nobody can tell.
        """
        ...


class MemoryPlace:
    """Objects that are not kept."""

    has_unique_keys = False

    def store(self, stores: Stores) -> ObjectStore:
        return MemoryStore()

    def trash(self, store: ObjectStore, duties: Duties) -> TrashFiles | None:
        return None

    def films(self) -> FilmFiles:
        return MemoryFilms()

    async def holds_objects(self) -> bool:
        return False


class FolderPlace:
    """Objects as files."""

    has_unique_keys = False

    def __init__(self, files: FileStore, data_dir: Path) -> None:
        self._files = files
        self._data_dir = data_dir

    def store(self, stores: Stores) -> ObjectStore:
        return self._files

    def trash(self, store: ObjectStore, duties: Duties) -> TrashFiles | None:
        return TrashFolder(self._files)

    def films(self) -> FilmFiles:
        return FolderFilms(self._data_dir / FILMS)

    async def holds_objects(self) -> bool:
        async with self._files.keys() as blocks:
            async for _ in blocks:
                return True
        return False


class BucketPlace:
    """Objects in S3 or Azure."""

    has_unique_keys = True

    def __init__(
        self, settings: Settings, bucket: Bucket, keys: MasterKeys, cache_bytes: int
    ) -> None:
        self.bucket = bucket
        self._keys = keys
        self._cache_bytes = cache_bytes
        self._data_dir = Path(settings.storage.data_dir)
        self._is_shared = settings.is_shared
        self._verify = settings.objects.verify

    def store(self, stores: Stores) -> ObjectStore:
        from isocenter.storage.objects.cloud.store import CloudStore

        folder = str(self._data_dir / "staging")
        cache = None
        if self._cache_bytes:
            from isocenter.storage.objects.cloud.range_cache import RangeCache

            cache = RangeCache(self.bucket, folder, most_bytes=self._cache_bytes)
        return CloudStore(
            self.bucket,
            stores.staged_keys,
            folder,
            cache=cache,
            master_keys=self._keys,
            verify=self._verify,
        )

    def trash(self, store: ObjectStore, duties: Duties) -> TrashFiles | None:
        from isocenter.storage.objects.cloud.store import CloudStore
        from isocenter.storage.objects.cloud.trash import CloudTrash

        assert isinstance(store, CloudStore)
        return CloudTrash(store, lambda: duties.hold("trash"))

    def films(self) -> FilmFiles:
        if not self._is_shared:
            return FolderFilms(self._data_dir / FILMS)
        from isocenter.storage.objects.cloud.films import BucketFilms

        return BucketFilms(self.bucket, self._keys)

    async def holds_objects(self) -> bool:
        from isocenter.storage.objects.cloud.store import holds_objects

        return await holds_objects(self.bucket)


async def open_place(
    settings: Settings, stack: AsyncExitStack, *, lock: bool, shared: bool, tries: bool
) -> Place:
    """The place of what is kept, and the data directory, owned if *lock* says so.

    Args:
        stack: closes it.
        tries: try whether a bucket can be used, as an archive does.

    Raises:
        StorageError: it cannot be used, or another server uses it.
    """
    storage, objects = settings.storage, settings.objects
    data_dir = Path(storage.data_dir)
    check_folder(settings)
    files = await open_file_store(data_dir, durability=storage.durability)
    stack.push_async_callback(files.aclose)
    if lock:
        files.lock(shared=shared)
    folder = objects.folder(data_dir)
    location = objects.url
    if location is not None and location.kind is StoreKind.FILES and folder == data_dir:
        location = None
    here = FolderPlace(files, data_dir)
    _check_mark(data_dir, location)
    if location is None:
        return here
    if await here.holds_objects():
        raise StorageError(
            f"{data_dir} has objects as files, and objects.url names {location}: an archive has "
            "all of its objects in one place; take the URL away, or another --data-dir"
        )
    place: Place
    if settings.object_store is None:
        elsewhere = await open_file_store(folder, durability=storage.durability)
        stack.push_async_callback(elsewhere.aclose)
        if lock:
            elsewhere.lock(shared=shared)
        place = FolderPlace(elsewhere, data_dir)
    else:
        bucket = connect(settings, location)
        keys = master_keys(settings)
        if tries:
            await bucket.try_out()
            await bucket.register(keys.fingerprints())
        share = objects.cache_bytes // settings.server.workers
        place = BucketPlace(settings, bucket, keys, share if lock else 0)
    if lock:
        write_place_mark(data_dir / _MARK, location)
    return place


def check_folder(settings: Settings) -> None:
    """Whether a folder that nodes share may be one.

    Raises:
        StorageError: it is the data directory of one node.
    """
    url, data_dir = settings.objects.url, Path(settings.storage.data_dir)
    if (
        settings.is_shared
        and url is not None
        and url.kind is StoreKind.FILES
        and Path(url.bucket).resolve() == data_dir.resolve()
    ):
        raise StorageError(
            f"objects.url names the data directory itself ({data_dir}), which belongs to one node; "
            "name another folder, which all nodes have, or leave objects.url away"
        )


def connect(settings: Settings, location: ObjectLocation, *, storage_class: str = "") -> Bucket:
    """A bucket with the options of [objects]; it is not asked anything yet.

    Raises:
        StorageError: obstore is missing, or an option is wrong.
    """
    try:
        from isocenter.storage.objects.cloud.connecting import ConnectOptions, connect_bucket
    except ImportError as error:
        raise StorageError(f"objects.url names a bucket, which needs obstore: {INSTALL}") from error
    objects = settings.objects
    return connect_bucket(
        location,
        ConnectOptions(
            credentials_file=objects.credentials_file,
            ca_file=objects.ca_file,
            requests=objects.requests,
            timeout=objects.timeout,
            encryption="" if objects.encryption == "bucket" else objects.encryption,
            kms_key=objects.kms_key,
            is_durable=settings.storage.durability == "full",
            storage_class=storage_class,
        ),
    )


def master_keys(settings: Settings) -> MasterKeys:
    """The keys that objects are encrypted with.

    Raises:
        StorageError: their file cannot be read.
    """
    from isocenter.storage.objects.cloud.encryption import NO_KEYS, MasterKeys

    path = settings.objects.keys_file
    if path is None:
        return NO_KEYS
    try:
        text = read_secret(path).decode("utf-8", "replace")
    except (OSError, SecretFileError) as error:
        raise StorageError(f"objects.keys_file {path} cannot be read: {text_of(error)}") from error
    return MasterKeys.parse(text, f"objects.keys_file {path}")


async def try_bucket(settings: Settings) -> None:
    """Try whether the bucket of the settings can be used as an archive does.

    Raises:
        StorageError: it cannot; the message says what to do.
    """
    if settings.object_store is not None:
        await connect(settings, settings.object_store).try_out()


def _check_mark(data_dir: Path, location: ObjectLocation | None) -> None:
    """Raises:
    StorageError: the objects of this archive are somewhere else.
    """
    try:
        marked = (data_dir / _MARK).read_text("utf-8").strip()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{data_dir / _MARK} cannot be read: {text_of(error)}") from error
    if location is None or location.identity != marked:
        named = "nothing" if location is None else f"{location}"
        raise StorageError(
            f"the objects of {data_dir} are in {marked}, and objects.url names {named}; name the "
            "same (--objects, ISOCENTER__OBJECTS__URL, or [objects] in the file of settings), or "
            "take another --data-dir"
        )


def write_place_mark(path: Path, location: ObjectLocation) -> None:
    """Note in the data directory where objects are, unless that was done.

    Raises:
        StorageError: it cannot be written.
    """
    if path.exists():
        return
    new = path.with_suffix(".new")
    try:
        with suppress(FileNotFoundError):
            new.unlink()
        new.write_text(f"{location.identity}\n", "utf-8")
        match_owner(path.parent, new)
        new.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {text_of(error)}") from error
