"""``isocenter reload``: have the running server read its configuration again."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Final

from isocenter.services.cli import EXIT_FAILED, EXIT_OK
from isocenter.services.errors import text_of
from isocenter.services.settings.errors import SettingsError
from isocenter.services.settings.loading import load_settings
from isocenter.services.system.pid_file import pid_of_server

DESCRIPTION: Final = """\
Have the server that runs on a data directory read again: certificates, keys and revocation
lists, the policy, [access], [identity], [log], rules and peers.  No association is dropped
but those by certificates that were revoked; what cannot be used is left out, with a line in the
server's log that says why.  What a start would warn of is in the log again.  As SIGHUP does."""
EXAMPLES: Final = """\
examples:
  isocenter reload
  isocenter reload --data-dir /srv/isocenter
  isocenter certs revoke CT1 && isocenter reload

exit codes: 0 the server was told, 1 none runs there, or it cannot be told, 2 wrong arguments
or settings"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which server."""
    parser.add_argument(
        "--data-dir", dest="storage.data_dir", metavar="DIR", help="data directory of the archive"
    )
    parser.add_argument("--config", metavar="FILE", help="settings of the archive (TOML)")


def run(arguments: argparse.Namespace) -> int:
    """Tell it; the exit code.

    Raises:
        SettingsError: the settings do not name a data directory.
    """
    data_dir = getattr(arguments, "storage.data_dir")
    overrides = {} if data_dir is None else {"storage.data_dir": data_dir}
    storage = load_settings(arguments.config, overrides=overrides).storage
    if storage.is_in_memory:
        raise SettingsError("storage.data_dir", "reload", "is in memory; send SIGHUP to the server")
    if not hasattr(signal, "SIGHUP"):
        print("isocenter reload: needs a system with SIGHUP; restart the server", file=sys.stderr)
        return EXIT_FAILED
    try:
        pid = pid_of_server(storage.data_dir)
        if pid is not None:
            os.kill(pid, signal.SIGHUP)
    except ProcessLookupError:
        pid = None
    except OSError as error:
        print(
            f"isocenter reload: {storage.data_dir}: {text_of(error)}; "
            "be the user who runs the server",
            file=sys.stderr,
        )
        return EXIT_FAILED
    if pid is None:
        print(f"isocenter reload: no server runs on {storage.data_dir}", file=sys.stderr)
        return EXIT_FAILED
    print(f"process {pid} reads its configuration again; its log says what came of it")
    return EXIT_OK
