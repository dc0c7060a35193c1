"""Host check: folder, room, clock, descriptors, versions."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sqlite3
import ssl
import stat
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from isocenter.services.diagnostics.doctor.check import CheckResult, size_text
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.errors import text_of
from isocenter.services.settings.settings import Settings
from isocenter.services.system.users import user_name

_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
#: Files that are looked at for their mode; all are made the same way.
_MOST_FILES: Final = 2_000
#: Fraction of the disk from which on somebody should make room (MON-1.3).
_NEARLY_FULL: Final = 0.80
_FULL: Final = 0.95
_GIB: Final = 1 << 30
_LEAST_FREE: Final = _GIB
#: SQLite's shared memory needs one machine, and a sync that reaches the disk.
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"}
)
_MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
#: Descriptors that the process needs beside those of its connections.
_OTHER_DESCRIPTORS: Final = 200
#: Clocks of two machines that write one disk differ by less.
_CLOCK_TOLERANCE_SECONDS: Final = 60.0
#: ``struct timex`` of adjtimex(2): modes, offset, freq, maxerror, esterror, status …
_TIMEX: Final = struct.Struct("@Illlli")
_TIMEX_BYTES: Final = 512
_STA_UNSYNC: Final = 0x40


def check_folder(settings: Settings) -> CheckResult:
    """The data directory: there, ours, private and writable."""
    folder = Path(settings.storage.data_dir)
    what = "data directory"
    try:
        status = folder.stat()
    except FileNotFoundError:
        return CheckResult(
            what,
            f"{folder} does not exist yet",
            (note(f"{folder} is made by the first isocenter serve", side=Side.HERE),),
        )
    except OSError as fault:
        return CheckResult(what, str(folder), (_unreadable(folder, fault),))
    if not stat.S_ISDIR(status.st_mode):
        fault_text = f"{folder} is no directory"
        cure = "choose another one with --data-dir"
        return CheckResult(what, fault_text, (error(fault_text, cure=cure, side=Side.HERE),))
    if not hasattr(os, "geteuid"):
        return CheckResult(what, str(folder))
    mode = stat.S_IMODE(status.st_mode)
    owner = user_name(status.st_uid)
    findings: list[Finding] = []
    if status.st_uid != os.geteuid():
        findings.append(
            warning(
                f"{folder} belongs to {owner}, and doctor runs as {user_name(os.geteuid())}",
                meaning="it sees what its own user may see, and not whether the server may",
                cure=f"run it as the user of the server: sudo -u {owner} isocenter doctor …",
                side=Side.HERE,
            )
        )
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        findings.append(
            error(
                f"{folder} cannot be written",
                meaning="nothing can be stored",
                cure=f"chmod 700 {folder}, or mount its file system for writing",
                side=Side.HERE,
            )
        )
    if mode & _FOR_OTHERS:
        findings.append(
            error(
                f"{folder} has mode {mode:03o}",
                meaning="other users of this machine can reach patients' data",
                cure=f"chmod 700 {folder}",
                side=Side.HERE,
            )
        )
    findings += _open_files(folder)
    return CheckResult(
        what, f"{folder}, mode {mode:03o}, of {owner}", tuple(findings), facts={"mode": f"{mode:o}"}
    )


def _open_files(folder: Path) -> Iterator[Finding]:
    """What in it is open to others; certificates and lists are meant to be."""
    wrong: list[Path] = []
    looked = 0
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if Path(root, name) != folder / "certs"]
        for name in files:
            looked += 1
            path = Path(root, name)
            try:
                if path.lstat().st_mode & _FOR_OTHERS:
                    wrong.append(path)
            except OSError:
                continue
        if looked >= _MOST_FILES:
            break
    if wrong:
        yield error(
            f"{wrong[0]}"
            + (f" and {len(wrong) - 1} more files" if len(wrong) > 1 else "")
            + " can be reached by other users",
            meaning="if the directory is opened, or copied with its modes, so are patients' data",
            cure=f"chmod -R go= {folder}, and look for what copied files there",
            side=Side.HERE,
        )


def _unreadable(path: Path, fault: OSError) -> Finding:
    return error(
        f"{path}: {text_of(fault)}",
        cure="run doctor as the user of the server, or give that user the right to read it",
        side=Side.HERE,
    )


def check_umask() -> CheckResult:
    """What files that are made get taken away."""
    mask = os.umask(0o077)
    os.umask(mask)
    findings: tuple[Finding, ...] = ()
    if mask & 0o077 != 0o077:
        findings = (
            note(
                f"the umask is {mask:03o}",
                meaning="serve sets 077 itself, and the store gives its files mode 600 whatever it "
                "is; folders that you make beside it are open to others",
                cure="umask 077 in the shell of whoever looks after the archive",
                side=Side.HERE,
            ),
        )
    return CheckResult("umask", f"{mask:03o}", findings, facts={"umask": f"{mask:03o}"})


def check_disk(settings: Settings) -> CheckResult:
    """Room, names that are left, and whether the file system keeps what it is told."""
    folder = _existing(Path(settings.storage.data_dir))
    try:
        usage = shutil.disk_usage(folder)
    except OSError as fault:
        return CheckResult("disk", str(folder), (_unreadable(folder, fault),))
    # As df counts: what only root may use is used.
    used = 1 - usage.free / (usage.used + usage.free) if usage.used + usage.free else 1.0
    findings: list[Finding] = []
    if used >= _FULL or usage.free < _LEAST_FREE:
        findings.append(
            error(
                f"{size_text(usage.free)} free, {used:.0%} used",
                meaning="soon C-STORE is answered with A700H, out of resources",
                cure="make room (see room), or move the archive to a larger disk",
                side=Side.HERE,
            )
        )
    elif used >= _NEARLY_FULL:
        findings.append(
            warning(
                f"{used:.0%} of the disk is used",
                meaning=f"{size_text(usage.free)} are left",
                cure="plan for more room",
                side=Side.HERE,
            )
        )
    if hasattr(os, "statvfs"):
        names = os.statvfs(folder)
        if names.f_files and names.f_favail / names.f_files < 1 - _FULL:
            findings.append(
                error(
                    f"{names.f_favail:,} of {names.f_files:,} inodes are left",
                    meaning="each object needs one; then C-STORE is answered with A700H",
                    cure="use a file system with more inodes",
                    side=Side.HERE,
                )
            )
    kind = _file_system(folder)
    if kind in _NETWORK_FILE_SYSTEMS:
        findings.append(
            warning(
                f"{folder} lies on {kind}, a network file system",
                meaning="the index needs locks and memory that are shared on one machine, and a "
                "success needs syncs that reach the disk; both depend on the file server",
                cure="keep the data directory on a local disk",
                side=Side.HERE,
            )
        )
    elif kind in _MEMORY_FILE_SYSTEMS:
        findings.append(
            warning(
                f"{folder} lies on {kind}, which is memory",
                meaning="all of it is gone when the machine stops",
                cure="keep the data directory on a disk",
                side=Side.HERE,
            )
        )
    seen = f"{size_text(usage.free)} free, {used:.0%} used" + (f", {kind}" if kind else "")
    facts = {"free_bytes": usage.free, "used_fraction": round(used, 4), "file_system": kind}
    return CheckResult("disk", seen, tuple(findings), facts=facts)


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _file_system(folder: Path) -> str:
    """Its kind, as mount calls it; empty: the system does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    resolved = folder.resolve()
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].encode().decode("unicode_escape")
        if len(point) >= longest and resolved.is_relative_to(point):
            found, longest = right.split()[0], len(point)
    return found


def check_clock(settings: Settings) -> CheckResult:
    """Whether the clock is set by somebody, and has not been behind what was written."""
    now = time.time()
    findings: list[Finding] = []
    is_set = _is_synchronized()
    if is_set is False:
        findings.append(
            # No more than a note: a virtual machine may have its time from its host.
            note(
                "the kernel knows of no time service that keeps the clock",
                "PS3.15 Annex G",
                "let systemd-timesyncd, chrony or ntpd run; in a container, on its host",
                meaning="certificates are judged by it, and studies are looked for by it",
                side=Side.HERE,
            )
        )
    index = Path(settings.storage.data_dir) / "index.db"
    try:
        ahead = index.stat().st_mtime - now
    except OSError:
        ahead = 0.0
    if ahead > _CLOCK_TOLERANCE_SECONDS:
        findings.append(
            error(
                f"the index was written {ahead:.0f} s in the future",
                meaning="the clock is wrong, or was when it was written",
                cure="set the clock",
                side=Side.HERE,
            )
        )
    kept = {True: "kept by a time service", False: "not kept by a time service", None: "unknown"}
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    return CheckResult(
        "clock", f"{shown} UTC, {kept[is_set]}", tuple(findings), facts={"synchronized": is_set}
    )


def _is_synchronized() -> bool | None:
    """What adjtimex(2) says, as ntpd, chrony and timesyncd tell the kernel; None: unknown."""
    if sys.platform != "linux":
        return None
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        answer = ctypes.CDLL(None).adjtimex(buffer)  # modes 0: only reads
    except (OSError, AttributeError):
        return None
    if answer < 0:
        return None
    status: int = _TIMEX.unpack_from(buffer.raw)[5]
    return not status & _STA_UNSYNC


def check_descriptors(settings: Settings) -> CheckResult:
    """Whether as many files may be open as connections are allowed."""
    try:
        import resource
    except ImportError:
        return CheckResult("open files", "no limit on this system")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.server.max_connections + _OTHER_DESCRIPTORS
    findings: tuple[Finding, ...] = ()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        findings = (
            note(
                f"{soft} files may be open, and {settings.server.max_connections} connections "
                "are allowed",
                meaning="over that, connections wait; the unit of the service has a limit of "
                "its own, which counts for the server",
                cure=f"LimitNOFILE={wanted} in the unit, or ulimit -n {wanted}, or lower "
                "server.max_connections",
                side=Side.HERE,
            ),
        )
    return CheckResult("open files", f"{soft} (at most {hard})", findings, facts={"limit": soft})


def check_versions() -> CheckResult:
    """What it runs on: for whoever is asked for help."""
    seen = (
        f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, "
        f"SQLite {sqlite3.sqlite_version}, {platform.system()} {platform.machine()}"
    )
    return CheckResult("versions", seen)
