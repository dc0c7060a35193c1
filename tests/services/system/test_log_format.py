"""Lines of the log: one for each record, whatever a peer put into it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import orjson
import pytest

from isocenter.services.notices import association_name
from isocenter.services.system import log_format as logs

FORGED = "x\n2026-01-01T00:00:00.000+00:00 info    isocenter.server: all is well\r\x1b[2J\u2028"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger("isocenter")
    before = root.level, root.handlers[:], root.propagate
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing, logging._srcfile
    yield
    root.level, root.handlers[:], root.propagate = before
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing, logging._srcfile = flags


def written(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> list[str]:
    """The lines of a message and of an exception that a peer has a say in."""
    logs.configure("info", as_json=as_json)
    log = logging.getLogger("isocenter.server")
    token = association_name.set("ab12-1")
    try:
        log.warning("%s", FORGED)
        log.info("%s", "y" * 10_000)
        raise ValueError(FORGED)
    except ValueError:
        log.exception("it failed")
    finally:
        association_name.reset(token)
    return capsys.readouterr().err.removesuffix("\n").split("\n")


def test_text_has_no_line_that_a_peer_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(capsys, as_json=False)
    records = [line for line in lines if not line.startswith("  ")]
    assert len(records) == 3
    assert all("isocenter.server: [ab12-1] " in line for line in records)
    assert records[0].endswith(r"all is well\x0d\x1b[2J\x2028")
    assert r"x\x0a2026-01-01" in records[0]
    assert len(records[1]) < 2_200
    assert "Traceback" in lines[lines.index(records[2]) + 1]
    assert all(character >= " " for line in lines for character in line)


def test_json_is_an_object_on_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    forged, long, failed = map(orjson.loads, written(capsys, as_json=True))
    assert forged["association"] == "ab12-1"
    assert (forged["level"], forged["logger"]) == ("warning", "isocenter.server")
    assert "\n" not in forged["message"]
    assert len(long["message"]) < 2_100
    assert failed["exception"].startswith("Traceback")
