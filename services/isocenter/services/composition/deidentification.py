"""Projects of de-identification that the settings name, with their keys."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from isocenter.services.archive.deidentification.project import Project
from isocenter.services.archive.deidentification.service import Deidentification
from isocenter.services.dicom.deidentification.pseudonyms import (
    PseudonymError,
    new_key,
    parse_key,
)
from isocenter.services.dicom.pixels.pool import CodecPool
from isocenter.services.security.access.errors import PolicyError
from isocenter.services.security.access.policy import Policy
from isocenter.services.settings.settings import Settings
from isocenter.services.system.private_files import (
    PRIVATE_FILE,
    SecretFileError,
    make_private_directory,
    match_owner,
    read_secret,
    write_file,
)
from isocenter.storage.stores import Stores

log = logging.getLogger("isocenter.deidentification")

#: In the data directory: keys that were made for projects that name none.
_FOLDER: Final = "deidentification"
#: The project that is there without being set up.
BASIC: Final = "basic"


def open_deidentification(
    settings: Settings, stores: Stores, pool: CodecPool | None
) -> Deidentification:
    """The projects of the settings, and `BASIC`; that has a key of this machine, so not where nodes
    share an archive.

    Raises:
        PseudonymError: the key of one cannot be used; the message names the project.
        OSError: one cannot be made.
    """
    projects = list(settings.deidentification)
    if not settings.is_shared and all(project.name != BASIC for project in projects):
        projects.append(Project(name=BASIC))
    keys = {project.name: _key_of(project, settings) for project in projects}
    return Deidentification(projects, keys, stores.deidentification, pool)


def check_roles(settings: Settings, policy: Policy) -> None:
    """Look whether somebody can have the roles of projects: else whoever was meant would be given
    originals.

    Raises:
        PolicyError: there is none of that name.
    """
    for project in settings.deidentification:
        for role in project.roles:
            if role not in policy.all_roles:
                raise PolicyError(
                    f"the project {project.name} ([[deidentification]]) is for the role {role!r}, "
                    "and there is none, so whoever is meant would be given originals; make it "
                    f"(isocenter ae role {role} ...), or take it out of roles"
                )


async def warn_of_lost_keys(settings: Settings, stores: Stores) -> None:
    """Say which keys are about to be made for projects that have given out UIDs under others, as
    after a restore without the keys: patients would get other pseudonyms, and other dates."""
    if settings.is_shared or settings.storage.is_in_memory:
        return  # none is made, or nothing was given out
    for project in (*settings.deidentification, Project(name=BASIC)):
        if project.key_file is not None or _place_of(project.name, settings).exists():
            continue
        count = await stores.deidentification.count(project.name)
        if count:
            log.warning(
                "the key of the project %s, which has given out %d UIDs, is not there any more, "
                "and another is made: its patients get other pseudonyms and dates from now on; "
                "stop, and put the old key back (isocenter deidentification import-key)",
                project.name,
                count,
            )


def key_of(project: Project, settings: Settings) -> bytes:
    """The key of a project; it is made where there is none yet.

    Raises:
        PseudonymError: it cannot be used; the message names the project.
        OSError: it cannot be made.
    """
    return _key_of(project, settings)


def take_key(project: Project, settings: Settings, key: bytes, *, has_given_out: bool) -> None:
    """Have *key* for a project from now on, in the data directory.

    Args:
        has_given_out: the project has UIDs that another key made.

    Raises:
        PseudonymError: the project has another already, or has its key elsewhere.
        OSError: it cannot be written.
    """
    if project.key_file is not None or settings.is_shared or settings.storage.is_in_memory:
        raise PseudonymError(
            f"the key of the project {project.name} is not in the data directory: put it where "
            "key_file says"
        )
    path = _place_of(project.name, settings)
    if has_given_out and not (path.exists() and parse_key(read_secret(path)) == key):
        raise PseudonymError(
            f"the project {project.name} has given out UIDs under another key; with this one its "
            "patients would be others"
        )
    make_private_directory(path.parent)
    match_owner(path.parent.parent, path.parent)
    write_file(path, key.hex().encode() + b"\n", PRIVATE_FILE, replace=True)
    match_owner(path.parent, path)


def _place_of(name: str, settings: Settings) -> Path:
    """Where the key of a project is that names none."""
    return Path(settings.storage.data_dir) / _FOLDER / f"{name}.key"


def _key_of(project: Project, settings: Settings) -> bytes:
    try:
        return _read_key(project, settings)
    except (SecretFileError, PseudonymError) as error:
        raise PseudonymError(
            f"the key of the project {project.name} ([[deidentification]]) cannot be used: {error}"
        ) from error


def _read_key(project: Project, settings: Settings) -> bytes:
    if project.key_file is not None:
        return parse_key(read_secret(project.key_file))
    if settings.is_shared:
        # Made by each node for itself, a patient would have as many pseudonyms as there are nodes.
        raise PseudonymError(
            "nodes that share an archive need the same key: make one with isocenter dcmanonymize "
            "--new-key, copy it to each node, and name it in key_file"
        )
    if settings.storage.is_in_memory:
        return new_key()
    path = _place_of(project.name, settings)
    folder = path.parent
    if not path.exists():
        make_private_directory(folder)
        match_owner(folder.parent, folder)
        try:
            write_file(path, new_key().hex().encode() + b"\n", PRIVATE_FILE, replace=False)
            match_owner(folder, path)
        except FileExistsError:
            pass  # another process was first
    return parse_key(read_secret(path))
