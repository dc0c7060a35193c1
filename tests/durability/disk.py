"""A disk that follows a journal of system calls and forgets what was not synced.

`Disk` keeps for each file what it holds and what its last sync saved, and for each folder the
names that it has and those that its last sync saved.  `Disk.after_power_failure` writes what
is there when the power comes back, in one of four readings of POSIX (`Model`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random

from durability.journal import Begin, End

SECTOR = 512


class Model(Enum):
    """What a power failure leaves.  Of files always what their last sync saved, but for MIXED."""

    #: Names come back as they were at the last sync of anything: a journal in order.
    ORDERED = "names in order, as of the last sync"
    #: The same journal, written out just before the power went: every name is there.
    ORDERED_LATE = "names in order, all of them"
    #: A name is as it was at the last sync of its folder.
    STRICT = "names as of the last sync of their folder"
    #: As STRICT, but each change since then is there or not by chance: every name for itself,
    #: and of what was written after the last sync every sector.
    MIXED = "unsynced names and sectors by chance"


@dataclass(eq=False, slots=True)
class File:
    live: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    #: When the sync began whose content is durable: others may end in another order.
    synced_at: int = 0

    def copy_for_sync(self) -> bytes:
        return bytes(self.live)


@dataclass(eq=False, slots=True)
class Folder:
    live: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)
    synced_at: int = 0


Node = File | Folder
#: A namespace as of some moment: what each folder held.
Names = dict[Folder, dict[str, Node]]


@dataclass(slots=True)
class _Descriptor:
    node: Node
    position: int = 0
    appends: bool = False


class Disk:
    """The part of the file system below *root*, which exists and is empty when the journal begins.

    One process, whose threads share their descriptors.

    Attributes:
        sent: what left through sockets with the last call, for whoever reads answers.
    """

    def __init__(self, root: Path) -> None:
        self._root_path = f"{root}/"
        self.root = Folder()
        self._descriptors: dict[int, _Descriptor] = {}
        #: By threads that are in a sync: when it began, and what was there then.
        self._syncing: dict[int, bytes | dict[str, Node]] = {}
        self._syncing_all: dict[int, dict[File, bytes]] = {}
        self._names_when_syncing: dict[int, tuple[int, Names]] = {}
        self._calls = 0
        self._ordered: Names = {}
        self._ordered_at = 0
        self.sent: list[bytes] = []

    def follow(self, call: Begin | End) -> str:
        """Do what the call does; a name for this kind of moment, empty when nothing happened."""
        self.sent = []
        self._calls += 1
        if isinstance(call, End):
            return "" if call.result < 0 else self._end(call)
        match call.name:
            case "close":
                self._descriptors.pop(call.numbers[0], None)
            case "sendto" | "sendmsg":
                self.sent = call.strings
                return "send"
            case "fsync" | "fdatasync":
                node = self._of(call)
                if node is not None:
                    copy = dict(node.live) if isinstance(node, Folder) else node.copy_for_sync()
                    self._syncing[call.thread] = copy
                    self._names_when_syncing[call.thread] = self._calls, dict(_walk(self.root))
                    return "before sync"
            case "syncfs":
                names = dict(_walk(self.root))
                self._names_when_syncing[call.thread] = self._calls, names
                self._syncing_all[call.thread] = {
                    node: node.copy_for_sync()
                    for folder in names.values()
                    for node in folder.values()
                    if isinstance(node, File)
                }
                return "before sync"
        return ""

    def _end(self, call: End) -> str:
        arguments = call.arguments
        match call.name:
            case "openat" | "open" | "creat":
                return self._open(call)
            case "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2":
                return self._write(call)
            case "ftruncate":
                node = self._of(call)
                if isinstance(node, File):
                    length = call.numbers[1]
                    node.live[:] = node.live[:length].ljust(length, b"\0")
                    return "write"
            case "fsync" | "fdatasync":
                return self._synced(call)
            case "syncfs":
                return self._synced_all(call)
            case "mkdir" | "mkdirat":
                return self._name(call, 0, Folder())
            case "link" | "linkat":
                source, _ = self._paths(call)
                found = self._find(source)
                return "" if found is None else self._name(call, 1, found)
            case "rename" | "renameat" | "renameat2":
                source, _ = self._paths(call)
                found = self._find(source)
                if found is not None:
                    self._forget(source)
                    return self._name(call, 1, found)
            case "unlink" | "unlinkat" | "rmdir":
                path = self._paths(call)[0]
                if self._find(path) is not None:
                    self._forget(path)
                    return "names"
            case "mmap":
                shared = "MAP_SHARED" in arguments and "PROT_WRITE" in arguments
                node = self._descriptor_of(call.numbers[-2]) if shared else None
                # What is written through a mapping is in no journal.  SQLite's -shm holds
                # nothing that has to survive, and it is not even read after a crash.
                assert node is None or node is self._shared_memory(), "a file is mapped to write"
            case "truncate" | "fallocate" | "copy_file_range" | "sendfile" | "symlink":
                assert not any(self._inside(path) for path in self._paths(call)), call
                assert self._of(call) is None or call.name == "sendfile", call
            case "dup" | "dup2" | "dup3":
                assert self._of(call) is None, call
            case "msync" | "sync" | "sync_file_range" | "symlinkat":
                raise AssertionError(f"the model does not know {call.name}")
        return ""

    # -- Calls ------------------------------------------------------------------------

    def _open(self, call: End) -> str:
        path = self._paths(call)[0]
        flags = call.arguments
        if not self._inside(f"{path}/"):
            return ""
        node = self._find(path)
        happened = ""
        if node is None:
            assert "O_CREAT" in flags, f"{path!r} was opened, and nobody made it"
            node = File()
            happened = self._name(call, 0, node)
        elif "O_TRUNC" in flags and isinstance(node, File):
            node.live.clear()
            happened = "write"
        self._descriptors[call.result] = _Descriptor(node, appends="O_APPEND" in flags)
        return happened

    def _write(self, call: End) -> str:
        given = call.numbers
        descriptor = self._descriptors.get(given[0])
        if descriptor is None:
            return ""
        assert isinstance(descriptor.node, File)
        data = b"".join(call.strings)[: call.result]
        assert len(data) == call.result
        if call.name.startswith("p"):
            offset = given[-1]
        elif descriptor.appends:
            offset = len(descriptor.node.live)
        else:
            offset = descriptor.position
            descriptor.position += len(data)
        live = descriptor.node.live
        if len(live) < offset:
            live.extend(bytes(offset - len(live)))
        live[offset : offset + len(data)] = data
        return "write"

    def _synced(self, call: End) -> str:
        node = self._of(call)
        if node is None:
            return ""
        began, names = self._names_when_syncing.pop(call.thread)
        copy = self._syncing.pop(call.thread)
        if isinstance(node, Folder):
            assert isinstance(copy, dict)
            self._save_names(node, copy, began)
        else:
            assert isinstance(copy, bytes)
            self._save_content(node, copy, began)
        self._save_order(names, began)
        return "after sync"

    def _synced_all(self, call: End) -> str:
        began, names = self._names_when_syncing.pop(call.thread)
        for folder, found in names.items():
            self._save_names(folder, found, began)
        for file, content in self._syncing_all.pop(call.thread).items():
            self._save_content(file, content, began)
        self._save_order(names, began)
        return "after sync"

    # A sync that takes long may end after another one that began later, and takes nothing back
    # of what that one has saved.

    def _save_content(self, file: File, content: bytes, began: int) -> None:
        if began > file.synced_at:
            file.durable, file.synced_at = content, began

    def _save_names(self, folder: Folder, names: dict[str, Node], began: int) -> None:
        if began > folder.synced_at:
            folder.durable, folder.synced_at = names, began

    def _save_order(self, names: Names, began: int) -> None:
        if began > self._ordered_at:
            self._ordered, self._ordered_at = names, began

    def _name(self, call: End, which: int, node: Node) -> str:
        path = self._paths(call)[which]
        if not self._inside(path):
            return ""
        folder, name = self._place(path)
        folder.live[name] = node
        return "names"

    def _forget(self, path: str) -> None:
        folder, name = self._place(path)
        del folder.live[name]

    # -- Paths and descriptors --------------------------------------------------------

    def _paths(self, call: End) -> list[str]:
        return [os.fsdecode(path) for path in call.strings]

    def _inside(self, path: str) -> bool:
        return path.startswith(self._root_path)

    def _place(self, path: str) -> tuple[Folder, str]:
        *parents, name = path.removeprefix(self._root_path).split("/")
        folder = self.root
        for part in parents:
            node = folder.live[part]
            assert isinstance(node, Folder)
            folder = node
        return folder, name

    def _find(self, path: str) -> Node | None:
        if path == self._root_path.rstrip("/"):
            return self.root
        if not self._inside(path):
            return None
        try:
            folder, name = self._place(path)
        except KeyError:
            return None
        return folder.live.get(name)

    def _of(self, call: Begin | End) -> Node | None:
        return self._descriptor_of(next(iter(call.numbers), -1))

    def _descriptor_of(self, number: int) -> Node | None:
        descriptor = self._descriptors.get(number)
        return None if descriptor is None else descriptor.node

    def _shared_memory(self) -> Node | None:
        for names in dict(_walk(self.root)).values():
            for name, node in names.items():
                if name.endswith("-shm"):
                    return node
        return None

    # -- Afterwards -------------------------------------------------------------------

    def after_power_failure(self, target: Path, model: Model, seed: int = 0) -> None:
        """Write below *target* what the disk holds when the power comes back."""
        _Image(model, self._ordered, Random(seed)).write(self.root, target)


class _Image:
    def __init__(self, model: Model, ordered: Names, random: Random) -> None:
        self._model = model
        self._ordered = ordered
        self._random = random
        self._written: dict[File, Path] = {}

    def write(self, folder: Folder, target: Path) -> None:
        target.mkdir(mode=0o700)
        for name, node in self._names(folder).items():
            path = target / name
            if isinstance(node, Folder):
                self.write(node, path)
            elif node in self._written:
                os.link(self._written[node], path)  # two names of one file stay two names of it
            else:
                path.touch(mode=0o600)  # as the umask of a server leaves it
                path.write_bytes(self._content(node))
                self._written[node] = path

    def _names(self, folder: Folder) -> dict[str, Node]:
        match self._model:
            case Model.ORDERED:
                return self._ordered.get(folder, {})
            case Model.ORDERED_LATE:
                return folder.live
            case Model.STRICT:
                return folder.durable
            case Model.MIXED:
                names: dict[str, Node] = {}
                for name in sorted(folder.live.keys() | folder.durable.keys()):
                    side = self._random.choice((folder.live, folder.durable))
                    if name in side:
                        names[name] = side[name]
                return names

    def _content(self, file: File) -> bytes:
        if self._model is not Model.MIXED or file.live == file.durable:
            return file.durable
        size = len(self._random.choice((file.live, file.durable)))
        content = bytearray()
        for start in range(0, size, SECTOR):
            side = self._random.choice((file.live, file.durable))
            content += side[start : start + SECTOR].ljust(SECTOR, b"\0")
        return bytes(content[:size])


def _walk(folder: Folder) -> Iterator[tuple[Folder, dict[str, Node]]]:
    yield folder, dict(folder.live)
    for node in folder.live.values():
        if isinstance(node, Folder):
            yield from _walk(node)
