"""What the file tools share: inputs, outputs that are whole or not there, faults, exit codes."""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest

from isocenter.services.cli.files.file_tool import (
    EXIT_ARGUMENTS,
    EXIT_INVALID,
    EXIT_OK,
    FileToolError,
    InputFile,
    OtherFileKindError,
    add_file_options,
    for_each,
    input_files,
    opened,
    output_file,
    plan,
    run_file_tool,
)
from isocenter.services.cli.support.argument_parser import CommandParser
from isocenter.services.cli.support.options import UsageError
from isocenter.services.cli.support.terminal import Terminal


def parsed(*words: str) -> argparse.Namespace:
    parser = CommandParser(prog="isocenter tool", prefix_chars="-+")
    add_file_options(parser, what="files", output="results")
    return parser.parse_args(words)


def quiet() -> Terminal:
    return Terminal("tool", quiet=False, verbose=False, debug=False)


# -- Inputs ------------------------------------------------------------------------------


def test_folders_are_gone_through_in_order(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(input_files([str(tmp_path)], recursive=True))
    assert [one.relative for one in found] == ["a", "b/1", "b/2", "c/d/3"]
    assert not any(one.fault for one in found)


def test_a_folder_without_r_and_what_is_no_file_are_faults(tmp_path: Path) -> None:
    (folder,) = input_files([str(tmp_path)], recursive=False)
    assert "-r" in folder.fault
    (missing,) = input_files([str(tmp_path / "missing")], recursive=True)
    assert missing.fault == "No such file or directory"
    (device,) = input_files([os.devnull], recursive=False)
    assert device.fault == "not a file"


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [one.relative for one in input_files([str(tmp_path)], recursive=True)] == ["one"]


def test_standard_input_can_be_read_at_any_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"abcdef")))
    with opened("-") as file:
        file.seek(3)
        assert file.read() == b"def"


def test_a_pipe_is_read_as_standard_input_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"abcdef"))
    writer.start()
    with opened(str(pipe)) as file:
        writer.join()
        file.seek(3)
        assert file.read() == b"def"


# -- What paths mean ---------------------------------------------------------------------


def test_the_second_of_two_paths_is_the_output(tmp_path: Path) -> None:
    made = plan(parsed("a.dcm", str(tmp_path / "a.json")), suffix=".json")
    assert (made.paths, made.target, made.is_folder) == (
        ("a.dcm",), str(tmp_path / "a.json"), False,
    )  # fmt: skip


def test_nobody_loses_an_input_by_naming_two(tmp_path: Path) -> None:
    (tmp_path / "b.dcm").touch()
    with pytest.raises(UsageError, match="-o"):
        plan(parsed("a.dcm", str(tmp_path / "b.dcm")), suffix=".json")


def test_one_file_goes_to_standard_output() -> None:
    assert plan(parsed("a.dcm"), suffix=".json").target == "-"


def test_a_folder_goes_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    made = plan(parsed("-r", str(tmp_path / "in"), "-o", str(tmp_path / "out")), suffix=".json")
    assert made.is_folder
    assert made.output_of(InputFile("in/a/1", "a/1")) == str(tmp_path / "out/a/1.json")


def test_several_results_do_not_fit_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    with pytest.raises(UsageError, match="need a folder"):
        plan(parsed("a", "b", "c", "-o", str(tmp_path / "there")), suffix="")


def test_a_folder_needs_r(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-r"):
        plan(parsed(str(tmp_path)), suffix="")


def test_two_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    made = plan(parsed("x/1", "y/1", "z", "-o", str(tmp_path)), suffix="")
    made.output_of(InputFile("x/1", "1"))
    with pytest.raises(FileToolError, match="another folder"):
        made.output_of(InputFile("y/1", "1"))


# -- Outputs -----------------------------------------------------------------------------


def test_an_output_is_whole_or_not_there(tmp_path: Path) -> None:
    place = tmp_path / "made/for/it"
    with output_file(str(place)) as file:
        file.write(b"whole")
        assert not place.exists()
    assert place.read_bytes() == b"whole"

    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise FileToolError("in the middle")

    with pytest.raises(FileToolError), output_file(str(place)) as file:
        fail(file)
    assert place.read_bytes() == b"whole"
    assert os.listdir(place.parent) == ["it"]


def test_what_is_replaced_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    place = tmp_path / "one"
    place.touch(0o640)
    place.chmod(0o640)
    (tmp_path / "link").symlink_to(place)
    with output_file(str(tmp_path / "link")) as file:
        file.write(b"new")
    assert place.read_bytes() == b"new"
    assert place.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "link").is_symlink()


def test_a_folder_that_cannot_be_written_names_the_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError), output_file(str(tmp_path / "file/below")):
        pass


def test_a_device_is_written_and_stays() -> None:
    with output_file(os.devnull) as file:
        file.write(b"gone")
    assert not os.path.isfile(os.devnull)


# -- Faults ------------------------------------------------------------------------------


def test_a_fault_costs_its_file_and_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def work(file: InputFile) -> None:
        if file.path == "b":
            raise FileToolError("cannot be; do this")
        if file.path == "c":
            raise OSError(28, "No space left on device")
        done.append(file.path)

    files = [InputFile(name, name) for name in "abcd"]
    assert for_each(quiet(), iter(files), work, title="") == EXIT_INVALID
    assert done == ["a", "d"]
    assert capsys.readouterr().err.splitlines() == [
        "tool: b: cannot be; do this (error -701)",
        "tool: c: No space left on device (error -702)",
    ]


def test_no_file_at_all_is_no_success() -> None:
    assert for_each(quiet(), iter(()), lambda file: None, title="") == EXIT_INVALID


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("no"), 1), (FileToolError("no"), 2), (OSError(2, "no", "x"), 2)],
)
def test_exit_codes(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def work(terminal: Terminal) -> int:
        raise error

    assert run_file_tool(parsed("a"), work) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_interrupted() -> None:
    def work(terminal: Terminal) -> int:
        raise KeyboardInterrupt

    assert run_file_tool(parsed("a"), work) == 130


def test_an_unknown_option_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parsed("a", "--no-such-option")
    assert raised.value.code == EXIT_ARGUMENTS
    assert "--no-such-option" in capsys.readouterr().err


def test_what_is_of_another_kind_is_a_fault_only_where_it_was_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(file: InputFile) -> None:
        if file.path != "dicom":
            raise OtherFileKindError("not DICOM")

    found = [InputFile("dicom", "dicom"), InputFile("readme", "readme", is_found=True)]
    assert for_each(quiet(), iter(found), work, title="") == EXIT_OK
    assert for_each(quiet(), iter(found[1:]), work, title="") == EXIT_INVALID
    assert for_each(quiet(), iter([InputFile("named", "named")]), work, title="") == EXIT_INVALID
    assert "tool: named: not DICOM" in capsys.readouterr().err


def test_standard_output_gets_nothing_of_what_fails(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    def fail(file: IO[bytes]) -> None:
        file.write(b"half")
        raise FileToolError("in the middle")

    with pytest.raises(FileToolError), output_file("-") as file:
        fail(file)
    with output_file("-") as file:
        file.write(b"whole")
    assert capfdbinary.readouterr().out == b"whole"
