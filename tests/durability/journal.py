"""The journal of a server's system calls, as `strace` writes it.

Calls of several threads overlap: each gives a `Begin` where it was entered and an `End` where
it came back, in the order in which the kernel stopped for them.  What counts as written
before a sync is what was through when the sync began; what counts as durable after it, what a
sync that has come back took with it.  That reading is the worst that the kernel may do to us.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

#: Calls that change what a disk holds, say that it is durable, or let an answer go.
CALLS = (
    "openat,open,creat,close,dup,dup2,dup3,mmap,"
    "write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,copy_file_range,sendfile,"
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "fsync,fdatasync,sync,syncfs,sync_file_range,msync,sendto,sendmsg"
)
#: Longer than any write: nothing may be cut off.
MOST_BYTES = 1 << 24


def strace(journal: Path) -> list[object]:
    """The words before a command whose calls are to be written to *journal*."""
    return [
        "strace", "-f", "-qq", "--seccomp-bpf", "-xx", "-s", MOST_BYTES,
        "-e", "signal=none", "-e", f"trace={CALLS}", "-o", journal,
    ]  # fmt: skip


@dataclass(frozen=True)
class Begin:
    """A call is entered.  *arguments* is strace's text of them."""

    thread: int
    name: str
    arguments: str

    # Read once: the same calls are followed for each crash point that is tried.
    @cached_property
    def strings(self) -> list[bytes]:
        """The strings and buffers among the arguments, whole."""
        found = []
        for match in _STRING.finditer(self.arguments):
            assert not match[2], "strace cut a buffer short"
            found.append(bytes.fromhex(match[1].replace("\\x", "")))
        return found

    @cached_property
    def numbers(self) -> list[int]:
        """The arguments that are numbers, in their order."""
        return [
            int(word, 0)
            for word in (part.strip() for part in _STRING.sub("", self.arguments).split(","))
            if re.fullmatch(r"-?[1-9]\d*|0|0x[0-9a-f]+", word)
        ]


@dataclass(frozen=True)
class End(Begin):
    """The same call came back with *result*; negative: it failed and did nothing."""

    result: int


_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+|\?)(?: .*)?")
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
_UNFINISHED = " <unfinished ...>"
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def read_journal(path: Path) -> Iterator[Begin | End]:
    """Begin and End of every call, in order."""
    unfinished: dict[int, Begin] = {}
    with path.open() as lines:
        for line in lines:
            parts = _LINE.fullmatch(line.rstrip("\n"))
            assert parts is not None, line[:200]
            thread, text = int(parts[1]), parts[2]
            if text.startswith(("+++", "---")):
                continue
            if text.endswith(_UNFINISHED):
                name, _, arguments = text.removesuffix(_UNFINISHED).partition("(")
                unfinished[thread] = Begin(thread, name, arguments)
                yield unfinished[thread]
                continue
            resumed = _RESUMED.fullmatch(text)
            if resumed is not None:
                begun = unfinished.pop(thread)
                assert begun.name == resumed[1]
                text = f"{begun.name}({begun.arguments}{resumed[2]}"
            call = _CALL.fullmatch(text)
            assert call is not None, text[:200]
            name, arguments, result = call[1], call[2], call[3]
            if resumed is None:
                yield Begin(thread, name, arguments)
            if result != "?":  # else the process ended in it
                yield End(thread, name, arguments, int(result, 0))
