"""Package of the viewer: verified, unpacked, fitted to its path.

OHIF is published on npm (``@ohif/app``, MIT licence) as the files of a web page, 50 MB packed.  It
is no part of this distribution: whoever wants it installs it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.services.errors import text_of

#: In the data directory.
VIEWER_FOLDER: Final = "viewer"
#: What npm calls the version that is known to work.
PACKAGE: Final = "@ohif/app@3.13.2"
#: SHA-512 of it, as the registry says it.
INTEGRITY: Final = (
    "WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA=="
)
#: Where it is served.
PATH: Final = "/ohif"
_INSIDE: Final = "package/dist/"
_MOST_BYTES: Final = 1 << 30
_MOST_FILES: Final = 10_000
_PIECE: Final = 1 << 20
#: What the files say of the path that they are served at.
_PUBLIC_PATH: Final = re.compile(rb'(__webpack_require__\.p\s*=\s*)"/"')
_ADDRESS: Final = re.compile(rb'((?:href|src|content)=|window\.PUBLIC_URL=)"/(?!/)')
_STYLE_ADDRESS: Final = re.compile(rb"url\(/(?!/)")
#: Unregisters what nobody has registered, and names a host that is not ours.
_SERVICE_WORKER: Final = re.compile(rb"<script[^>]*init-service-worker\.js[^>]*></script>")


class ViewerPackageError(IsocenterError):
    """A package that cannot be installed; the message says why, and what would help."""

    error_code = ErrorCode.IMPORTING


def digest_of(package: Path) -> str:
    """SHA-512 of a package, in base 64 as npm writes it.

    Raises:
        ViewerPackageError: it cannot be read.
    """
    digest = hashlib.sha512()
    try:
        with package.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise ViewerPackageError(f"{package}: {text_of(error)}") from error
    return base64.b64encode(digest.digest()).decode()


def install(
    package: Path,
    folder: Path,
    *,
    digest: str = INTEGRITY,
    progress: Callable[[int], None] = lambda files: None,
) -> int:
    """Put the viewer in *package* into *folder*, in the place of one that is there; its files.

    Args:
        digest: of the package, in base 64; another one is not installed.

    Raises:
        ViewerPackageError: it is another package, or cannot be unpacked; nothing has changed.
    """
    found = digest_of(package)
    if found != digest:
        raise ViewerPackageError(
            f"{package} is not {PACKAGE} (its SHA-512 is {found}); get it with npm pack {PACKAGE}, "
            "or say by --sha512 which one you trust"
        )
    staged = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        files = _unpack(package, staged, progress)
        _fit(staged)
        _exchange(staged, folder)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ViewerPackageError(f"{package} cannot be installed: {error}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return files


def remove(folder: Path) -> bool:
    """Remove the viewer; False: there is none.

    Raises:
        ViewerPackageError: it cannot be removed.
    """
    if not folder.exists():
        return False
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ViewerPackageError(f"{folder} cannot be removed: {text_of(error)}") from error
    return True


def is_installed(folder: Path) -> bool:
    """Whether there is a viewer."""
    return (folder / "index.html").is_file()


def _unpack(package: Path, staged: Path, progress: Callable[[int], None]) -> int:
    staged.mkdir(mode=0o700)
    files = size = 0
    with tarfile.open(package, "r:gz") as archive:
        for member in archive:
            if not member.isfile() or not member.name.startswith(_INSIDE):
                continue
            if member.name.endswith(".map"):
                continue  # for debuggers, and most of the bytes
            files += 1
            size += member.size
            if files > _MOST_FILES or size > _MOST_BYTES:
                raise ViewerPackageError(f"{package} holds more than a viewer does")
            member.name = member.name.removeprefix(_INSIDE)
            archive.extract(member, staged, filter="data")
            progress(files)
    if not is_installed(staged):
        raise ViewerPackageError(f"{package} holds no viewer")
    return files


def _fit(folder: Path) -> None:
    """Have the files say the path that they are served at."""
    own = PATH.encode()
    index = folder / "index.html"
    index.write_bytes(_SERVICE_WORKER.sub(b"", index.read_bytes()))
    for pattern, expression, replacement in (
        ("*.js", _PUBLIC_PATH, rb'\1"%s/"' % own),
        ("*.css", _STYLE_ADDRESS, rb"url(%s/" % own),
        ("index.html", _ADDRESS, rb'\1"%s/' % own),
    ):
        for path in folder.glob(pattern):
            path.write_bytes(expression.sub(replacement, path.read_bytes()))


def _exchange(staged: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        if folder.exists():
            folder.rename(old)
        os.rename(staged, folder)
    finally:
        shutil.rmtree(old, ignore_errors=True)
