"""Our server with everything that can be attacked: TLS, orders, a worklist, consumers of events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from attacks.peer import Target
from attacks.workflow import ENTRIES, write_entries
from support.ports import free_port
from support.processes import (
    ServedArchive,
    isocenter_command,
    served_archive,
    wait_for_line,
)

#: The first consumer is the attacker's; neither is there but in its attack.
_CONFIGURATION: Final = """
[hl7]
enabled = true
port = 0

[web]
https_host = "127.0.0.1"
https_port = 0

[[events.consumers]]
name = "attacker"
webhook = "http://127.0.0.1:{}/"
kinds = ["study.opened"]
timeout = 2
longest_retry = 1
give_up_after = 3

[[events.consumers]]
name = "other"
webhook = "http://127.0.0.1:{}/"
kinds = ["study.opened"]
longest_retry = 1
give_up_after = 3
"""


def _port_of(scheme: str, served: ServedArchive) -> int:
    found = re.search(rf"{scheme}://127\.0\.0\.1:(\d+)/dicomweb", served.log.read_text("utf-8"))
    assert found is not None
    return int(found[1])


@contextmanager
def served_for_attacks(folder: Path, scale: float = 1.0) -> Iterator[tuple[ServedArchive, Target]]:
    """It, and where it is attacked; the folder has to be one of its own in another."""
    hooks = (free_port(), free_port())
    config, entries = folder / "isocenter.toml", folder / "entries.json"
    config.write_text(_CONFIGURATION.format(*hooks))
    count = int(ENTRIES * scale)
    write_entries(entries, count)
    with served_archive(folder, "--config", config, tls=True) as served:
        hl7 = wait_for_line(served.process, r"^  HL7 orders .*:(\d+)$", served.log)[1]
        done = isocenter_command("worklist", "import", entries, "--data-dir", served.data_dir)
        assert done.returncode == 0, done.stdout
        yield (
            served,
            Target(
                served.port,
                served.ae_title,
                folder,
                served.tls_port,
                hl7_port=int(hl7),
                http_port=_port_of("http", served),
                https_port=_port_of("https", served),
                hooks=hooks,
                entries=count,
            ),
        )
