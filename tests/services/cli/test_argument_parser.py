"""The parser of a command: options between paths, also of an action; exit codes of its own."""

from __future__ import annotations

import pytest

from isocenter.services.cli.support.argument_parser import CommandParser


def parser_of_paths() -> CommandParser:
    parser = CommandParser(prog="isocenter tool", prefix_chars="-+")
    parser.is_intermixed = True
    parser.add_argument("paths", nargs="+")
    parser.add_argument("-o", "--output")
    return parser


def test_options_may_stand_between_paths() -> None:
    parser = parser_of_paths()
    for _ in range(2):  # the second reads as the first
        read = parser.parse_args(["one", "-o", "there", "two"])
        assert (read.paths, read.output) == (["one", "two"], "there")


def test_only_where_it_is_asked_for() -> None:
    parser = parser_of_paths()
    parser.is_intermixed = False
    with pytest.raises(SystemExit):
        parser.parse_args(["one", "-o", "there", "two"])


def test_actions_have_the_same_kind_of_parser(capsys: pytest.CaptureFixture[str]) -> None:
    parser = CommandParser(prog="isocenter tool")
    action = parser.add_subparsers(dest="action").add_parser("create")
    action.is_intermixed = True
    action.exit_code_of_errors = 7
    action.add_argument("paths", nargs="+")
    action.add_argument("-o", "--output")
    read = parser.parse_args(["create", "one", "-o", "there", "two"])
    assert (read.paths, read.output) == (["one", "two"], "there")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["create", "one", "-o"])
    assert ended.value.code == 7
    assert capsys.readouterr().err.endswith(
        "tool create: argument -o/--output: expected one argument\n"
    )


def test_wrong_arguments_end_with_the_usual_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser_of_paths().parse_args([])
    assert ended.value.code == 2
    assert "isocenter tool: error: the following arguments are required" in capsys.readouterr().err
