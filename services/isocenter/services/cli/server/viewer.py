"""``isocenter viewer``: install the viewer OHIF, which the server then offers in the browser."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.viewer.package import (
    INTEGRITY,
    PACKAGE,
    PATH,
    VIEWER_FOLDER,
    ViewerPackageError,
    install,
    is_installed,
    remove,
)

DESCRIPTION: Final = f"""\
The viewer OHIF in the browser, at {PATH}/ of the server's web address.  It is no part of this
distribution (50 MB, MIT licence, for investigational use only): this installs {PACKAGE} from a
package file, or has npm fetch that, and checks its SHA-512."""
EXAMPLES: Final = f"""\
examples:
  isocenter viewer install                       npm fetches it
  npm pack {PACKAGE} && isocenter viewer install ohif-app-3.13.2.tgz
  isocenter viewer install other.tgz --sha512 BASE64
  isocenter viewer status
  isocenter viewer remove

A server that runs offers it after its next start.

exit codes: 0 done (status: it is installed), 1 not, 2 wrong arguments or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their options."""
    where = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    where.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    where.add_argument("--config", metavar="FILE", help="settings of the archive (TOML)")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("install", "install the viewer, in the place of one that is there"),
        ("remove", "remove it"),
        ("status", "say whether it is installed"),
    ):
        action = actions.add_parser(
            name, help=text, description=text, parents=[where], allow_abbrev=False
        )
        if name == "install":
            action.add_argument(
                "package",
                nargs="?",
                type=Path,
                metavar="FILE",
                help="the package, as npm packs it (default: have npm fetch it)",
            )
            action.add_argument(
                "--sha512",
                default=INTEGRITY,
                metavar="BASE64",
                help=f"of the package, if it is not {PACKAGE}",
            )


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code.

    Raises:
        SettingsError: the settings do not name a data directory.
        ViewerPackageError: the package cannot be installed.
    """
    data_dir = getattr(arguments, "storage.data_dir")
    overrides = {} if data_dir is None else {"storage.data_dir": data_dir}
    storage = load_settings(arguments.config, overrides=overrides).storage
    if storage.is_in_memory:
        raise SettingsError("storage.data_dir", "viewer", "is in memory, where no viewer lasts")
    folder = Path(storage.data_dir) / VIEWER_FOLDER
    match arguments.action:
        case "install":
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _package(arguments.package) as package:
                files = install(package, folder, digest=arguments.sha512)
            print(f"{files} files are installed in {folder}; the server offers them at {PATH}/")
            return EXIT_OK
        case "remove":
            was_there = remove(folder)
            print(f"{folder} is removed" if was_there else "no viewer is installed")
            return EXIT_OK if was_there else EXIT_FAILED
        case _:
            found = is_installed(folder)
            print(f"installed in {folder}" if found else "no viewer is installed")
            return EXIT_OK if found else EXIT_FAILED


@contextmanager
def _package(path: Path | None) -> Iterator[Path]:
    """The package; one that npm fetches is removed afterwards."""
    if path is not None:
        yield path
        return
    npm = shutil.which("npm")
    if npm is None:
        raise ViewerPackageError(
            f"npm is not installed: get the file elsewhere with npm pack {PACKAGE}, and name it"
        )
    with tempfile.TemporaryDirectory() as folder:
        print(f"npm fetches {PACKAGE}", file=sys.stderr)
        done = subprocess.run(  # noqa: S603 - npm, and words of ours
            [npm, "pack", "--silent", PACKAGE], cwd=folder, check=False, stdout=subprocess.DEVNULL
        )
        found = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(found) != 1:
            raise ViewerPackageError("npm could not fetch it; what it said stands above")
        yield found[0]
