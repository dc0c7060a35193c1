"""Error codes: one for each exception, on the command line, in the log, in the API."""

from __future__ import annotations

import errno
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import orjson
import pytest

from isocenter.engine.error_codes import AREAS, ErrorCode
from isocenter.engine.errors import AssociationRejectedError, IsocenterError
from isocenter.services.cli import main
from isocenter.services.errors import ConnectError, error_code_of, fault_text
from isocenter.services.system.log_format import formatter

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "error_codes_reference.py"


def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("error_codes_reference", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_committed_page_is_what_the_table_gives() -> None:
    module = reference()
    assert module.PAGE.read_text("utf-8") == module.page(), f"run {module.MAKE}"


def test_every_exception_has_a_code_of_its_kind() -> None:
    general = reference().exceptions().get(ErrorCode.GENERAL, [])
    assert general == ["IsocenterError"], "give it an error_code"


def test_codes_are_in_order_and_begin_an_area() -> None:
    numbers = [int(code) for code in ErrorCode]
    assert numbers == sorted(numbers, reverse=True)
    assert next(iter(ErrorCode)) in AREAS
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AssociationRejectedError(1, 1, 7), -760),
        (ConnectError("nobody listens"), -764),
        (FileNotFoundError(2, "no such file", "x"), -700),
        (ConnectionResetError(), -764),
        (TimeoutError(), -768),
        (PermissionError(), -701),
        (OSError(errno.EADDRINUSE, "taken"), -922),
        (OSError(errno.ENOSPC, "full"), -702),
        (KeyError("x"), None),
    ],
)
def test_the_code_of_an_error(error: Exception, code: int | None) -> None:
    assert error_code_of(error) == code
    assert fault_text(error).endswith(f"(error {code})") == (code is not None)


def test_a_command_says_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["echoscu", "127.0.0.1", "1"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("(error -764)")
    assert main(["dcmdump", "/nowhere.dcm"]) == 2
    assert "(error -7" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["argument", "exception"])
def test_the_log_says_the_code(place: str) -> None:
    class OurError(IsocenterError):
        error_code = ErrorCode.PLUGIN

    error = OurError("it is broken")
    raised = (OurError, error, None) if place == "exception" else None
    about = (error,) if place == "argument" else ("it",)
    record = logging.LogRecord("isocenter", logging.ERROR, "", 0, "failed: %s", about, raised)
    assert orjson.loads(formatter(as_json=True).format(record))["error"] == -923
    assert "(error -923)" in formatter(as_json=False).format(record)
    plain = logging.LogRecord("isocenter", logging.ERROR, "", 0, "failed: %s", ("it",), None)
    assert "error" not in orjson.loads(formatter(as_json=True).format(plain))
