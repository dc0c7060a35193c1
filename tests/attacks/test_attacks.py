"""Each attack against our server: others are served meanwhile, and nothing is left of it."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks.attacks import ATTACKS, Attack
from attacks.own import served_for_attacks
from attacks.peer import Target
from attacks.watch import canaries, open_descriptors, under_attack
from attacks.web import WEB_ATTACKS
from attacks.workflow import WORKFLOW_ATTACKS
from support.processes import ServedArchive

pytestmark = pytest.mark.slow

#: Of the real attack; `python -m tests.attacks` plays them whole.
SCALE = 0.3
#: Whoever lets an attacker stand in the way takes seconds.
MOST_MEDIAN_SECONDS = 0.5
#: Others on this machine may be in the way of a time, but not of three.
ATTEMPTS = 3
MOST_GROWN_BYTES = 16 << 20
#: Where it may be more: a data set that inflates; what a message may have, on
#: each connection; a MiB, read whole and written anew.
MOST_GROWN_BY_ATTACK = {"bomb": 160 << 20, "hl7-endless": 40 << 20, "sets": 32 << 20}
#: A bad connection has at most 4 KiB of log; each good request may have its line.
MOST_LOG_BYTES = 4_096
MOST_LINE_BYTES = 256
#: The line of an answer to a good request over HTTP.
_GOOD_REQUEST = re.compile(r"(?m)^\S+ info +isocenter\.http: \S+ GET /dicomweb/studies 200 .*\n")
_DONE = re.compile(r"(\d+) × (?:AA|0000H)")


@pytest.fixture(scope="module", autouse=True)
def descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def attacked(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServedArchive, Target]]:
    folder = tmp_path_factory.mktemp("attacked") / "server"
    folder.mkdir()
    with served_for_attacks(folder, SCALE) as served:
        yield served


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.parametrize(
    "attack", [*ATTACKS, *WORKFLOW_ATTACKS, *WEB_ATTACKS], ids=lambda attack: attack.name
)
def test_others_are_served_and_nothing_is_left(
    attacked: tuple[ServedArchive, Target], attack: Attack
) -> None:
    archive, target = attacked
    pid = archive.process.pid
    log, allowed = archive.log.stat().st_size, 0
    for _ in range(ATTEMPTS):
        outcome = under_attack(
            attack,
            target,
            SCALE,
            memory=lambda: resident(pid),
            descriptors=lambda: open_descriptors(pid),
        )
        allowed += MOST_LOG_BYTES * outcome.connections
        allowed += MOST_LINE_BYTES * sum(map(int, _DONE.findall(outcome.fate)))
        if outcome.median < MOST_MEDIAN_SECONDS:
            break
    assert archive.process.poll() is None
    assert outcome.serves, outcome
    assert outcome.refused == 0 or attack.name == "crowd", outcome
    assert outcome.median < MOST_MEDIAN_SECONDS, outcome
    assert outcome.descriptors <= 0, outcome
    most = MOST_GROWN_BY_ATTACK.get(attack.name, MOST_GROWN_BYTES)
    assert outcome.grown < most, outcome
    assert outcome.written == (), outcome
    assert re.search(attack.wanted, outcome.fate), outcome
    written = archive.log.read_bytes()[log:].decode("utf-8")
    assert len(_GOOD_REQUEST.sub("", written)) < allowed
    assert "Traceback" not in written
    assert "\nFORGED" not in written
    assert "\x1b" not in written


def test_what_is_written_outside_would_be_seen(tmp_path: Path) -> None:
    server = tmp_path / "server"
    server.mkdir()
    (tmp_path / "isocenter-canary.dcm").touch()
    assert canaries(server) == (str(tmp_path / "isocenter-canary.dcm"),)
