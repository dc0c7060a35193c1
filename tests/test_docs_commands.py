"""Every command line of the documentation, of the help and of our messages can be typed."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from isocenter.services.cli import main, parser_of
from isocenter.services.cli.commands import COMMANDS
from support.pages import ROOT, CommandLine, command_lines

BY_NAME = {command.name: command for command in COMMANDS}
#: Words that follow "isocenter" in sentences: "a key that isocenter has made".
NO_COMMANDS = {"has", "read", "reads", "write", "isocenter", "old"}
#: What a sentence leaves open: arguments that are missing, or named by a word in capitals.
LEFT_OPEN = re.compile(r"are required|one of the arguments|value: '[A-Z]+'|argument ACTION")


@cache
def parser(name: str) -> argparse.ArgumentParser:
    return parser_of(BY_NAME[name])[1]


def parsers(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its actions."""
    yield of
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in dict.fromkeys(action.choices.values()):
                yield from parsers(each)


@cache
def options(name: str) -> frozenset[str]:
    return frozenset(
        option
        for each in parsers(parser(name))
        for action in each._actions
        for option in action.option_strings
    )


def fault_of(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Why *line* cannot be typed; empty: it can."""
    text = re.sub(r":(?:DIGEST|\w+…)", ":" + "0" * 64, line)
    text = re.sub(r" +#.*| [>&|].*|…", "", text)
    words = shlex.split(re.sub(r'\$\w+|"\$\([^)]*\)"', "1.2.3", text))[1:]
    if not words or words[0] in ("--help", "--version"):
        return ""
    if words[0] not in BY_NAME:
        return f"there is no command {words[0]}"
    if words[-1] == "--help":
        return ""
    try:
        parser(words[0]).parse_args(words[1:])
    except SystemExit:
        return capsys.readouterr().err.strip().rpartition("\n")[2]
    return ""


LINES = tuple(dict.fromkeys(command_lines()))


def test_there_are_lines() -> None:
    assert sum(line.is_whole for line in LINES) > 80
    assert {line.page for line in LINES} > {"README.md", "docs/tutorial/getting-started.md"}


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.page}: {line.text}")
def test_a_line_of_a_page(line: CommandLine, capsys: pytest.CaptureFixture[str]) -> None:
    fault = fault_of(line.text, capsys)
    assert not fault or (not line.is_whole and LEFT_OPEN.search(fault)), fault


@pytest.mark.parametrize("name", BY_NAME)
def test_examples_of_the_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for each in parsers(parser(name)):
        text = re.sub(r"\\\n\s*", "", each.epilog or "")
        for line in re.findall(r"(?m)^  (isocenter .*)$", text):
            for part in re.split(r" (?:&&|\|) ", re.split(r"  +", line)[0]):
                if part.startswith("isocenter "):
                    assert not fault_of(part, capsys), part


def said() -> Iterator[tuple[str, str]]:
    """Where, and what: every text in our code that names a command of ours."""
    for room in ("engine", "services", "storage"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    text = "".join(
                        part.value if isinstance(part, ast.Constant) else "X"
                        for part in node.values
                        if isinstance(part, ast.Constant | ast.FormattedValue)
                    )
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    text = node.value
                else:
                    continue
                yield f"{path.relative_to(ROOT)}:{node.lineno}", " ".join(text.split())


def test_what_our_messages_advise_exists() -> None:
    found = 0
    for place, text in said():
        for name, rest in re.findall(r"\bisocenter ([a-z][a-z0-9]+)\b((?: [^\s;,`]+)*)", text):
            if name in NO_COMMANDS:
                continue
            assert name in BY_NAME, f"{place}: isocenter {name}{rest}"
            # What follows a colon or a full stop is another sentence.
            clause = re.split(r"[:.)] ", rest)[0]
            for option in re.findall(r"(?<=\s)--?[a-z][\w-]*", clause):
                found += 1
                assert option in options(name), f"{place}: isocenter {name} {option}"
    assert found > 30


@pytest.mark.parametrize("name", BY_NAME)
def test_the_help_says_the_defaults_that_hold(name: str) -> None:
    for each in parsers(parser(name)):
        for action in each._actions:
            said = re.search(r"\(default: ([^)%]*)\)", action.help or "")
            is_number = type(action.default) in (int, float)
            if said is None or not is_number:
                continue  # words, as "ask"; or made from the default
            # 0 stands for no limit.
            shown = 0 if action.default == float("inf") else action.default
            assert said[1] == f"{shown:g}", action.option_strings


@pytest.mark.parametrize("name", BY_NAME)
def test_exit_codes_are_in_the_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """And wrong arguments are what it calls so."""
    text = " ".join((parser(name).epilog or "").split())
    with pytest.raises(SystemExit) as ended:
        parser(name).parse_args(["--no-such-option-of-ours"])
    capsys.readouterr()
    # The file tools have the exit codes that such tools have elsewhere.
    is_file_tool = BY_NAME[name].module.startswith("files.") or name == "dbbrowser"
    code = 1 if is_file_tool else 2
    said = re.search(rf"\b{code} ([a-z ]+)", text.partition("exit code")[2])
    assert ended.value.code == code
    assert said is not None, text[-200:]
    assert "argument" in said[1] or "cannot" in said[1], said[0]


@pytest.mark.parametrize(
    "line",
    [
        "certs list", "ae list", "user list", "reload", "config show", "conformance", "db stats",
        "audit show", "import .", "worklist list", "mpps list", "commitments list", "events tail",
        "queue summary", "rules list", "doctor", "serve", "delete --study 1.2 --reason x",
        "trash list", "health", "backup x", "restore x", "hold list", "retention check",
    ],
)  # fmt: skip
def test_wrong_settings_end_as_the_help_says(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "isocenter.toml"
    config.write_text("[server]\nport = 'x'\n", "utf-8")
    name = line.partition(" ")[0]
    help_text = " ".join((parser(name).epilog or "").split()).partition("exit codes:")[2]
    said = re.search(r"(\d) [^,]*settings", help_text)
    # To a doctor that is an answer.
    expected = 1 if name == "doctor" else int(said[1]) if said else None
    assert main([*line.split(), "--config", str(config)]) == expected
    output = capsys.readouterr()
    assert "server.port = 'x'" in output.err + output.out
