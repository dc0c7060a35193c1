"""printscu against our printer, and what it says of wrong arguments and files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import imagecodecs
import orjson
import pytest

from isocenter.services.association.service_registry import ServiceRegistry
from isocenter.services.cli import main
from isocenter.services.notices import Notices
from isocenter.services.service_classes.print.manager import PrintJobManager
from isocenter.services.service_classes.print.printer import Printer
from isocenter.services.service_classes.print.scp import PrintScp
from isocenter.storage.stores import open_sqlite_stores
from services.cli_support import running
from services.service_classes.print.samples import composed, pattern

Output = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def printer() -> Iterator[str]:
    @asynccontextmanager
    async def registry() -> AsyncIterator[ServiceRegistry]:
        async with open_sqlite_stores(":memory:") as stores:
            manager = PrintJobManager(stores.print_jobs, most=9, notices=Notices())
            scp = PrintScp(Printer(), manager, composed)
            yield ServiceRegistry([scp], background_tasks=[scp.run])

    with running(registry) as server:
        yield server.peer


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    path.write_bytes(imagecodecs.png_encode(pattern(20, 30)))
    return str(path)


def test_printing_and_asking(printer: str, picture: str, capsys: Output) -> None:
    call = ["printscu", printer]
    assert main([*call, "status", "-o", "json"]) == 0
    (found,) = orjson.loads(capsys.readouterr().out)
    assert found["21100010"]["Value"] == ["NORMAL"]
    layout = ["--format", "STANDARD\\1,2", "--film-size", "A4", "--text", "1=Film"]
    assert main([*call, "print", picture, picture, picture, *layout, "-v"]) == 0
    said = capsys.readouterr()
    assert "2 films with 3 images" in said.err
    first, _ = said.out.split()
    assert main([*call, "job", first, "-o", "json"]) == 0
    (found,) = orjson.loads(capsys.readouterr().out)
    assert found["21000020"]["Value"] == ["PENDING"]
    assert main([*call, "configuration"]) == 0
    assert "PrinterConfigurationSequence" in capsys.readouterr().out
    assert main([*call, "print", picture, "--max-density", "999"]) == 0
    assert "film 1: B605H" in capsys.readouterr().err


def test_what_the_printer_refuses_is_said(printer: str, picture: str, capsys: Output) -> None:
    call = ["printscu", printer]
    assert main([*call, "print", picture, "--film-size", "POSTCARD"]) == 1
    said = capsys.readouterr().err
    assert "the printer answered 0106H invalid attribute value" in said
    assert "8INX10IN" in said
    assert main([*call, "job", "1.2.3"]) == 1
    assert "0112H" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([], "what? Give one of print, status, configuration, job"),
        (["print"], "print what? Give DICOM files or pictures"),
        (["job"], "which job? Give its UID"),
        (["job", "x..y"], "which job? Give its UID"),
        (["status", "more"], "status takes no 'more'"),
        (["print", "x.dcm", "--text", "Film"], "'Film' is no annotation; give N=TEXT"),
    ],
)
def test_wrong_arguments(printer: str, words: list[str], fault: str, capsys: Output) -> None:
    assert main(["printscu", printer, *words]) == 2
    assert fault in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--format", "SLIDE"], ["--window", "1"], ["--copies", "0"]])
def test_wrong_options(printer: str, option: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["printscu", printer, "print", "x.dcm", *option])
    assert ended.value.code == 2


def test_files_that_cannot_be_printed(printer: str, tmp_path: Path, capsys: Output) -> None:
    call = ["printscu", printer, "print"]
    assert main([*call, str(tmp_path / "nowhere.dcm")]) == 1
    assert "nowhere.dcm: No such file" in capsys.readouterr().err
    path = tmp_path / "text.txt"
    path.write_text("no image")
    assert main([*call, str(path)]) == 1
    assert "neither an image nor a picture" in capsys.readouterr().err
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    assert main([*call, str(path)]) == 1
    assert "text.txt: " in capsys.readouterr().err
