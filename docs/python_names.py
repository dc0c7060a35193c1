"""Public names of a package as a page: signatures, values, and docstrings in Markdown."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, IntEnum
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import ModuleType

from isocenter.engine import DEFAULT_LIMITS

_API_HEAD = """\
{generated}

# {title}

{about}

Made from the docstrings. A signature of a class is how a value of it is made; *raises* names what
the caller has to expect.
"""

#: What a definition list of a docstring is called on the page.
_SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Standard")
_SECTION = re.compile(rf"({'|'.join(_SECTIONS)}):\s*(.*)")
_ENTRY = re.compile(r"([\w*, ]+): (.*)")
_CODE = re.compile(r"(`+)([^`]+)\1")
_MARKUP = str.maketrans({"_": r"\_", "<": "&lt;", "|": r"\|"})
_WIDTH = 96
_PLAIN = (bool, int, float, str, tuple, type(None))
_LONGEST_DEFAULT = 60
_STARS: dict[object, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}
#: What `isocenter.services.Service` explains, for all services.
_OF_INTERFACES = frozenset({"offer", "perform", "respond_immediately"})
#: Dunder methods that are part of what a user sees.
_SHOWN_DUNDERS = frozenset({"__call__"})


def comment_before(lines: Sequence[str], line_number: int) -> str:
    """The ``#:`` comment that stands before a line, counted from 1."""
    before = (line.strip() for line in reversed(lines[: line_number - 1]))
    comment = takewhile(lambda line: line.startswith("#:"), before)
    return " ".join(line.removeprefix("#:").strip() for line in reversed([*comment]))


def groups(module: ModuleType) -> dict[str, list[str]]:
    """The names of ``__all__`` under the comments that stand in it; "" where there are none."""
    source = inspect.getsource(module)
    (names,) = (
        node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert isinstance(names, ast.List)
    found: dict[str, list[str]] = {}
    group = ""
    for line in source.splitlines()[names.lineno - 1 : names.end_lineno]:
        text = line.strip()
        if text.startswith("# "):
            group = text.removeprefix("# ")
        elif text.startswith('"'):
            found.setdefault(group, []).append(text.strip('",'))
    return found


def api_page(module: ModuleType, title: str, generated: str) -> str:
    """The page of what *module* has in ``__all__``.

    Args:
        generated: how the page begins: what made it.
    """
    known = frozenset(module.__all__)
    about = "\n".join(_doc(module, known)).strip()
    lines = [
        _API_HEAD.format(generated=generated, title=title, about=f"`{module.__name__}`: {about}")
    ]
    for group, names in groups(module).items():
        if group:
            lines += [f"## {group[0].upper()}{group[1:]}", ""]
        for name in names:
            lines += [f"{'###' if group else '##'} {name}", "", *_entry(module, name, known), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _entry(module: ModuleType, name: str, known: frozenset[str]) -> Iterator[str]:
    value = getattr(module, name)
    if inspect.isclass(value) and issubclass(value, Enum):
        yield from _code(f"class {name}({_enum_base(value)})")
        yield from _doc(value, known)
        yield from ("", "| member | value |", "| --- | --- |")
        for member in value:
            yield f"| `{member.name}` | {_enum_value(member)} |"
    elif inspect.isclass(value):
        yield from _code(f"class {name}{_made_or_based(value)}", *_how_to_raise(value))
        yield from _doc(value, known)
        for member_name, member in vars(value).items():
            yield from _member(name, member_name, member, known)
    elif inspect.isfunction(value):
        yield from _code(_call(name, value))
        yield from _doc(value, known)
    else:
        definition, comment = _assignment(module, name)
        yield from _code(definition)
        yield from ("", _prose(comment, known))


def _member(owner: str, name: str, member: object, known: frozenset[str]) -> Iterator[str]:
    if name.startswith("_") and name not in _SHOWN_DUNDERS:
        return
    if isinstance(member, property):
        assert member.fget is not None
        returns = inspect.signature(member.fget).return_annotation
        yield from ("", *_code(f"{owner}.{name}: {_annotation(returns)}"))
        yield from _doc(member, known)
    elif isinstance(member, classmethod | staticmethod):
        yield from ("", *_code(_call(f"{owner}.{name}", member.__func__, bound=True)))
        yield from _doc(member.__func__, known)
    elif inspect.isfunction(member):
        if not member.__doc__ and name in _OF_INTERFACES:
            return
        yield from ("", *_code(_call(f"{owner}.{name}", member, bound=True)))
        yield from _doc(member, known)


def _how_to_raise(value: type) -> Iterator[str]:
    """Of an error with values of its own: how one is made."""
    if issubclass(value, Exception) and "__init__" in vars(value):
        yield f"{value.__name__}{_signature(value)}"


def _code(*lines: str) -> Iterator[str]:
    """Signatures; over the width of the page with one parameter in each line."""
    yield "```python"
    for line in lines:
        yield from _wrapped(line)
    yield "```"


def _wrapped(line: str) -> Iterator[str]:
    name, parenthesis, rest = line.partition("(")
    arguments, _, tail = rest.rpartition(")")
    if len(line) > _WIDTH and parenthesis and arguments:
        yield f"{name}("
        yield from (f"    {argument}," for argument in _split(arguments))
        yield f"){tail}"
    else:
        yield line


def _split(arguments: str) -> Iterator[str]:
    """At the commas that stand in no bracket and no string."""
    depth, start = 0, 0
    for position, character in enumerate(arguments):
        depth += (character in "[({") - (character in "])}")
        if character == "," and not depth:
            yield arguments[start:position].strip()
            start = position + 1
    yield arguments[start:].strip()


def _call(name: str, function: Callable[..., object], bound: bool = False) -> str:
    """How a function is called: awaited, entered, or just so."""
    signature = _signature(function, bound)
    wrapped = inspect.unwrap(function)
    if inspect.isasyncgenfunction(wrapped) and wrapped is not function:
        # What `as` gives is what its iterator has.
        parameters, _, iterated = signature.rpartition("AsyncIterator[")
        return f"async with {name}{parameters}{iterated.removesuffix(']')}"
    return f"{'await ' * inspect.iscoroutinefunction(function)}{name}{signature}"


def _signature(function: Callable[..., object], bound: bool = False) -> str:
    signature = inspect.signature(function)
    written = _written_defaults(function)
    parts: list[str] = []
    marked = False
    for parameter in list(signature.parameters.values())[bound:]:
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            parts.append("*")
            marked = True
        text = _STARS.get(parameter.kind, "") + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {_annotation(parameter.annotation)}"
        if parameter.default is not parameter.empty:
            text += f" = {_default(parameter.default, written.get(parameter.name, '...'))}"
        parts.append(text)
    returns = signature.return_annotation
    shows = not (inspect.isclass(function) or returns in (signature.empty, "None", None))
    return f"({', '.join(parts)})" + (f" -> {_annotation(returns)}" if shows else "")


def _written_defaults(function: object) -> dict[str, str]:
    """Defaults as the source has them, which says more than their values do."""
    if inspect.isclass(function):
        function = vars(function).get("__init__")
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if code is None or not Path(code.co_filename).is_file():
        return {}  # that of a dataclass was never written
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(code))).body
    assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
    arguments = definition.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [
        *zip(
            positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True
        ),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {argument.arg: ast.unparse(value) for argument, value in defaults if value is not None}


def _annotation(annotation: object) -> str:
    if isinstance(annotation, str):
        return annotation
    return getattr(annotation, "__forward_arg__", None) or str(annotation)


def _default(value: object, written: str) -> str:
    """A number or a text as it is; of what is larger, what stands in the source."""
    if isinstance(value, Enum):
        return str(value)
    if isinstance(value, _PLAIN) and len(repr(value)) < _LONGEST_DEFAULT:
        return repr(value)
    if value is DEFAULT_LIMITS:
        return "DEFAULT_LIMITS"
    if written == "..." and len(repr(value)) > _WIDTH:
        return f"{type(value).__name__}(...)"
    if written == "..." and not repr(value).startswith("<"):
        return repr(value)
    return "..." if written.startswith("lambda") else written


def _made_or_based(value: type) -> str:
    """How a value is made; what it is, for errors and for what is made as its base is."""
    if getattr(value, "_is_protocol", False):
        return "(Protocol)"
    if not issubclass(value, Exception) and vars(value).keys() & {"__init__", "__new__"}:
        return _signature(value)
    bases = vars(value).get("__orig_bases__", value.__bases__)
    bases = () if bases == (object,) else bases
    names = (base.__name__ if type(base) is type else str(base) for base in bases)
    return f"({', '.join(names)})"


def _enum_base(value: type[Enum]) -> str:
    return "IntEnum" if issubclass(value, IntEnum) else "Enum"


def _enum_value(member: Enum) -> str:
    value = member.value
    return f"`{value:04X}H`" if type(member).__name__ == "Status" else f"`{value!r}`"


@cache
def _imported_from(module: ModuleType) -> dict[str, str]:
    """Name → the module that the package imports it from."""
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }


def _assignment(module: ModuleType, name: str) -> tuple[str, str]:
    """How a constant or a type alias is written, and the comment before it."""
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) == name and node.value is not None:
                comment = comment_before(source.splitlines(), node.lineno)
                definition = f"{name} = {ast.unparse(node.value)}"
                kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
                if kind.startswith("Final[") and len(definition) > _WIDTH:
                    # What it is; how it comes about is nobody's business.
                    definition = f"{name}: {kind.removeprefix('Final[').removesuffix(']')}"
                return definition, comment
    return _assignment(importlib.import_module(_imported_from(module)[name]), name)


def _doc(value: object, known: frozenset[str]) -> Iterator[str]:
    text = inspect.getdoc(value) if not inspect.isclass(value) else _class_doc(value)
    if not text:  # a member that its name explains
        return
    yield ""
    for block in _blocks(text.splitlines()):
        section = _SECTION.fullmatch(block[0])
        if all(line.startswith("    ") for line in block):
            yield from ("```python", textwrap.dedent("\n".join(block)), "```", "")
        elif section is None:
            yield from (_prose("\n".join(block), known), "")
        else:
            yield from _section(section, block, known)


def _section(section: re.Match[str], block: Sequence[str], known: frozenset[str]) -> Iterator[str]:
    title, rest = section.groups()
    inside = ([rest] if rest else []) + [line.strip() for line in block[1:]]
    entries = list(_entries(inside, block[1:]))
    if len(entries) == 1 and not entries[0][0]:
        yield from (f"*{title}*: {_prose(entries[0][1], known)}", "")
    else:
        yield from (f"*{title}*", "")
        for names, meaning in entries:
            of = _prose(f"`{names}`", known)
            yield f"- {of}: {_prose(meaning, known)}" if names else f"- {meaning}"
        yield ""


def _class_doc(value: type) -> str:
    # Its own: `inspect.getdoc` would take that of a base class.
    own = inspect.cleandoc(value.__doc__ or "")
    if "Attributes:" not in own:
        fields_ = "".join(f"\n    {name}: {text}" for name, text in _comments_in(value))
        own += f"\n\nAttributes:{fields_}" if fields_ else ""
    init = vars(value).get("__init__")
    of_init = inspect.cleandoc(getattr(init, "__doc__", None) or "")
    return own + (f"\n\n{of_init}" if of_init else "")


def _comments_in(value: type) -> Iterator[tuple[str, str]]:
    """Fields of a class that is no enumeration → the comments that stand before them."""
    if issubclass(value, Enum) or value.__module__ == "builtins":
        return
    lines = textwrap.dedent(inspect.getsource(value)).splitlines()
    (definition,) = ast.parse("\n".join(lines)).body
    assert isinstance(definition, ast.ClassDef)
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and (text := comment_before(lines, node.lineno)):
            yield ast.unparse(node.target), text


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Paragraphs, and sections of a docstring with what is indented under them."""
    block: list[str] = []
    for line in lines:
        starts_section = _SECTION.fullmatch(line) is not None
        ends_section = bool(block and _SECTION.fullmatch(block[0]) and line and line[0] != " ")
        if block and (not line.strip() or starts_section or ends_section):
            yield block
            block = []
        if line.strip():
            block.append(line)
    if block:
        yield block


def _entries(inside: Sequence[str], lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and their meanings; what is indented deeper goes on with the one before it."""
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    depths = [indent] * (len(inside) - len(lines)) + [
        len(line) - len(line.lstrip()) for line in lines
    ]
    names, meaning = "", ""
    for text, depth in zip(inside, depths, strict=True):
        entry = _ENTRY.fullmatch(text) if depth == indent else None
        if entry is None:
            meaning = f"{meaning} {text}".strip()
            continue
        if meaning:
            yield names, meaning
        names, meaning = entry[1], entry[2]
    if meaning:
        yield names, meaning


def _prose(text: str, known: frozenset[str]) -> str:
    """A docstring's markup as Markdown; names of this page become links."""
    text = re.sub(r"(?m)^ {4,}", "", text) if text.startswith(" ") else text

    def code(match: re.Match[str]) -> str:
        inside = match[2]
        return f"[`{inside}`](#{inside.lower()})" if inside in known else f"`{inside}`"

    parts: list[str] = []
    end = 0
    for match in _CODE.finditer(text):
        parts += [text[end : match.start()].translate(_MARKUP), code(match)]
        end = match.end()
    return "".join([*parts, text[end:].translate(_MARKUP)])
