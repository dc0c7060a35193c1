"""Document of headings, paragraphs and tables, as Markdown or HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import assert_never

from isocenter.engine.fast_init import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """*number* as in PS3.2, ``4.2.1``; its depth is that of the heading."""

    number: str
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of plain text; Markdown in it is left as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """*rows* have as many cells as *columns*."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Paragraph | Table


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The document as Markdown with tables."""
    return "\n".join([f"# {title}", "", *_markdown(blocks)])


def _markdown(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Heading(number, text):
                yield f"{'#' * (2 + number.count('.'))} {number} {text}"
            case Paragraph(text):
                yield text
            case Table(columns, rows):
                yield f"| {' | '.join(columns)} |"
                yield "|" + " --- |" * len(columns)
                for row in rows:
                    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
            case _:
                assert_never(block)
        yield ""


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{border:1px solid #999;padding:.2rem .6rem;text-align:left;vertical-align:top}"
    "th{background:#eee}"
)


def html(title: str, blocks: Sequence[Block]) -> str:
    """The document as one page of HTML that needs nothing else."""
    body = "\n".join(_html(blocks))
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n<h1>{escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(blocks: Sequence[Block]) -> Iterator[str]:
    for block in blocks:
        match block:
            case Heading(number, text):
                level = 2 + number.count(".")
                yield f"<h{level}>{escape(number)} {escape(text)}</h{level}>"
            case Paragraph(text):
                yield f"<p>{escape(text)}</p>"
            case Table(columns, rows):
                head = "".join(f"<th>{escape(column)}</th>" for column in columns)
                yield f"<table>\n<tr>{head}</tr>"
                for row in rows:
                    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
                    yield f"<tr>{cells}</tr>"
                yield "</table>"
            case _:
                assert_never(block)
