"""Documentation of releases side by side: each under its version, with a selector of them.

    python docs/versions.py SITE               # the release that pyproject.toml names
    python docs/versions.py SITE --version dev # what is on the main branch
    python docs/versions.py SITE --remove 0.1

SITE is a folder that a web server gives out as it is: ``0.2/`` has the pages of 0.2.x, ``latest/``
leads to those of the newest release, ``versions.json`` is what the selector of Material for MkDocs
reads (the form is that of mike).  Nothing is fetched, and the pages of other versions stay as they
were built.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
LIST: Final = "versions.json"
LATEST: Final = "latest"
#: Of what is not released; stands first in the selector, and is never the latest.
DEV: Final = "dev"
#: Read by docs/site_hooks.py: the pages ask for the list of versions.
VARIABLE: Final = "ISOCENTER_DOCS_VERSIONED"
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(?:\.\d+)?")
_LEADS_ON: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="robots" content="noindex">
<meta http-equiv="refresh" content="0; url={target}">
<script>location.replace("{target}" + location.hash)</script>
</head>
<body>The page of the latest release: <a href="{target}">{target}</a></body>
</html>
"""


class VersionsError(Exception):
    """Documentation that cannot be published; the message says why."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version as the selector shows it.

    Attributes:
        name: its folder: ``0.2``, ``dev``.
        title: ``0.2.1``, ``dev``.
    """

    name: str
    title: str

    @classmethod
    def parse(cls, text: str) -> Version:
        """From ``0.2.1``, ``0.2`` or ``dev``.

        Raises:
            VersionsError: it is none.
        """
        if text == DEV:
            return cls(DEV, DEV)
        match = _VERSION.fullmatch(text)
        if match is None:
            raise VersionsError(f"{text!r} is no version: 0.2.1, 0.2 or {DEV}")
        return cls(f"{int(match[1])}.{int(match[2])}", text)

    @property
    def order(self) -> tuple[int, int, int]:
        """The newest is the largest."""
        if self.name == DEV:
            return 1, 0, 0
        major, minor = self.name.split(".")
        return 0, int(major), int(minor)


def of_checkout() -> Version:
    """What pyproject.toml names; what is developed towards a release is `DEV`."""
    text = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return Version.parse(text if _VERSION.fullmatch(text) else DEV)


def published(site: Path) -> list[Version]:
    """The versions in *site*, the newest first.

    Raises:
        VersionsError: it is no folder of versions.
    """
    if not site.exists() or not any(site.iterdir()):
        return []
    try:
        entries = json.loads((site / LIST).read_text("utf-8"))
        found = [Version(one["version"], one["title"]) for one in entries]
        return sorted(found, key=lambda one: one.order, reverse=True)
    except FileNotFoundError:
        raise VersionsError(
            f"{site} has files and no {LIST}: it is no folder of versions; name an empty one"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise VersionsError(f"{site / LIST} cannot be read: {error}") from error


def add(site: Path, version: Version, built: Path) -> None:
    """Put the pages in *built*, which are moved, at their place in *site*."""
    others = [one for one in published(site) if one.name != version.name]
    site.mkdir(parents=True, exist_ok=True)
    place = site / version.name
    before = site / f".{version.name}.before"
    shutil.rmtree(before, ignore_errors=True)
    if place.exists():
        place.rename(before)
    shutil.move(built, place)
    shutil.rmtree(before, ignore_errors=True)
    _finish(site, [*others, version])


def remove(site: Path, version: Version) -> None:
    """Take the pages of a version away.

    Raises:
        VersionsError: there are none.
    """
    known = published(site)
    if version.name not in {one.name for one in known}:
        names = ", ".join(one.name for one in known) or "none"
        raise VersionsError(f"{site} has no pages of {version.name}; it has: {names}")
    _finish(site, [one for one in known if one.name != version.name])
    shutil.rmtree(site / version.name)


def _finish(site: Path, versions: Sequence[Version]) -> None:
    """The list, and what leads to the latest release, or to what there is."""
    ordered = sorted(versions, key=lambda one: one.order, reverse=True)
    latest = next((one for one in ordered if one.name != DEV), ordered[0] if ordered else None)
    entries: list[dict[str, Any]] = [
        {
            "version": one.name,
            "title": one.title,
            "aliases": [LATEST] if one is latest and one.name != DEV else [],
        }
        for one in ordered
    ]
    _write(site / LIST, json.dumps(entries, indent=2) + "\n")
    leads = site / LATEST
    shutil.rmtree(leads, ignore_errors=True)
    if latest is None:
        (site / "index.html").unlink(missing_ok=True)
        return
    _write(site / "index.html", _LEADS_ON.format(title="Isocenter", target=f"{latest.name}/"))
    for page in (site / latest.name).rglob("index.html"):
        address = page.parent.relative_to(site / latest.name)
        up = "../" * (len(address.parts) + 1)
        target = f"{up}{latest.name}/" + "".join(f"{part}/" for part in address.parts)
        place = leads / address / "index.html"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(_LEADS_ON.format(title="Isocenter", target=target), "utf-8")


def _write(path: Path, text: str) -> None:
    """At once: a web server gives it out meanwhile."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, "utf-8")
    new.replace(path)


def build(folder: Path) -> None:
    """The pages of this checkout, with the selector; a broken link is an error.

    Raises:
        VersionsError: it was not built; MkDocs has said why.
    """
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder)
    done = subprocess.run(  # noqa: S603 - our own arguments
        command, cwd=ROOT, env={**os.environ, VARIABLE: "1"}, check=False
    )
    if done.returncode:
        raise VersionsError("the pages cannot be built")


def main(words: Sequence[str] | None = None) -> int:
    """The program; its exit code."""
    parser = argparse.ArgumentParser(
        prog="versions.py", description="Put the documentation of a version beside others."
    )
    parser.add_argument("site", type=Path, metavar="SITE", help="folder with a folder for each")
    parser.add_argument(
        "--version", help=f"0.2.1, 0.2 or {DEV}; by default what pyproject.toml says"
    )
    parser.add_argument("--remove", metavar="VERSION", help="take the pages of a version away")
    arguments = parser.parse_args(words)
    try:
        if arguments.remove:
            remove(arguments.site, Version.parse(arguments.remove))
            return 0
        version = Version.parse(arguments.version) if arguments.version else of_checkout()
        published(arguments.site)  # a folder of something else is refused before pages are built
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / "site"
            build(built)
            add(arguments.site, version, built)
        sys.stdout.write(f"{arguments.site / version.name} has the pages of {version.title}\n")
    except (VersionsError, OSError) as error:
        sys.stderr.write(f"versions.py: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
