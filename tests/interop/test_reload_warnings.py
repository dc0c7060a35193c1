"""Warnings of a reload: of several worker processes one tells them."""

from __future__ import annotations

import signal
from pathlib import Path

from support.processes import served_archive, wait_until, workers_of


def obeys_reload(worker: int) -> bool:
    """Before, a worker ignores the signal, and reads what there is by then."""
    status = Path(f"/proc/{worker}/status").read_text()
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGHUP - 1) & 1)


def test_one_of_several_workers_warns(tmp_path: Path) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("")
    started, warning = "rules of the database, revision 0: in use", "access.enforce is never"
    read_again = "peers: read again, and in use"
    with served_archive(tmp_path / "archive", "--config", config, "--workers", 2) as served:

        def count(text: str) -> int:
            return served.log.read_text().count(text)

        def reload(times: int) -> None:
            served.process.send_signal(signal.SIGHUP)
            wait_until(lambda: count(read_again) == 2 * times, served.process)

        wait_until(lambda: count(started) == 2, served.process)
        wait_until(lambda: all(map(obeys_reload, workers_of(served.process))), served.process)
        config.write_text('[access]\nenforce = "never"\n')
        reload(1)
        wait_until(lambda: count(warning) > 0, served.process)
        # Whoever would warn has done so before it reads again.
        config.write_text("")
        reload(2)
        assert count(warning) == 1
