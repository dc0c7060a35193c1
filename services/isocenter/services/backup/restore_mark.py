"""Mark of an unfinished restore, which keeps a server from starting."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import orjson

from isocenter.services.backup.manifest import BackupError

#: In a data directory: a restore into it is under way, or was cut short.
RESTORING: Final = "restoring.json"


def check_not_restoring(data_dir: Path) -> None:
    """Raises:
    BackupError: a restore into this data directory is not finished.
    """
    path = data_dir / RESTORING
    try:
        members = orjson.loads(path.read_bytes())
        backup, generation = members["backup"], members["generation"]
        elsewhere = members.get("elsewhere", "")
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        backup, generation, elsewhere = "DIR", "NAME", ""
    raise BackupError(
        f"a restore into {data_dir} is not finished; go on with isocenter restore {backup} "
        f"--generation {generation} "
        + (
            f"--config FILE, where FILE names {elsewhere}"
            if elsewhere
            else f"--data-dir {data_dir}"
        )
    )
