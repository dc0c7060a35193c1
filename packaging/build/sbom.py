"""The bill of materials: what Isocenter needs to run, from the lock file, in CycloneDX 1.6.

Which versions somebody has installed beside the wheel, no wheel can know; what stands here
are those that it is tested and shipped with, by hash.  The same input gives the same bytes.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_NAMESPACE: Final = uuid.UUID("5b1a9f0e-7a1c-4f0f-9f8e-0d1c6b6f4a11")
_PACKAGE: Final = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")


@dataclass
class Package:
    """One package of the lock file; *needed_by*: names of those that require it."""

    name: str
    version: str
    hashes: list[str] = field(default_factory=list)
    needed_by: list[str] = field(default_factory=list)

    @property
    def purl(self) -> str:
        """As https://github.com/package-url writes it."""
        return f"pkg:pypi/{self.name}@{self.version}"


def packages(lock: str) -> list[Package]:
    """What ``pip-compile --generate-hashes`` wrote, in its order."""
    found: list[Package] = []
    for line in lock.splitlines():
        if match := _PACKAGE.match(line):
            found.append(Package(_normal(match[1]), match[2]))
        if found:
            found[-1].hashes += _HASH.findall(line)
            if line.lstrip().startswith("#"):
                found[-1].needed_by += _names(line)
    return found


def _names(comment: str) -> Iterator[str]:
    text = comment.strip().lstrip("# ").removeprefix("via").strip()
    if match := _NAME.match(text):
        yield _normal(match[0])


def _normal(name: str) -> str:
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def document(project: Mapping[str, Any], lock: str) -> bytes:
    """The bill, as JSON.

    Args:
        project: the table ``[project]`` of pyproject.toml.
        lock: the text of packaging/requirements.lock.
    """
    locked = packages(lock)
    root = f"pkg:pypi/{project['name']}@{project['version']}"
    refs = {package.name: package.purl for package in locked}
    refs[project["name"]] = root
    depends: dict[str, list[str]] = {ref: [] for ref in refs.values()}
    for package in locked:
        for name in package.needed_by:
            if name in refs:
                depends[refs[name]].append(package.purl)
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": project["name"],
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": root,
            },
            "lifecycles": [{"phase": "build"}],
        },
        "components": [
            {
                "type": "library",
                "bom-ref": package.purl,
                "name": package.name,
                "version": package.version,
                "scope": "required",
                "purl": package.purl,
                # One for each file that the index has of this version: any of them may be used.
                "properties": [
                    {"name": "isocenter:sha256", "value": digest} for digest in package.hashes
                ],
            }
            for package in locked
        ],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(needed)} for ref, needed in sorted(depends.items())
        ],
    }
    text = json.dumps(body, indent=2, ensure_ascii=False)
    serial = uuid.uuid5(_NAMESPACE, text)
    return (json.dumps({"serialNumber": f"urn:uuid:{serial}", **body}, indent=2) + "\n").encode()
