"""Annotations of images: arrows, outlines and texts, and how they look."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final, Self

import orjson

from isocenter.engine.error_codes import ErrorCode
from isocenter.engine.errors import IsocenterError
from isocenter.engine.fast_init import dataclass
from isocenter.services.viewing import geometry
from isocenter.services.viewing.geometry import Point, PointRule, check_points

_COLOUR: Final = re.compile(r"#[0-9a-fA-F]{6}")
#: Characters of a text; a presentation state takes as many (PS3.5 6.2, ST).
MOST_TEXT: Final = 1024
_MOST_FONT: Final = 64


class AnnotationError(IsocenterError, ValueError):
    """There is no such annotation; the message says why."""

    error_code = ErrorCode.DOCUMENT


class AnnotationType(Enum):
    """What an annotation is."""

    #: From its tail to its head.
    ARROW = "arrow"
    LINE = "line"
    RECTANGLE = "rectangle"
    ELLIPSE = "ellipse"
    POLYGON = "polygon"
    FREEHAND = "freehand"
    TEXT = "text"
    ANGLE = "angle"
    ROI = "roi"


RULES: Final[Mapping[AnnotationType, PointRule]] = {
    AnnotationType.ARROW: geometry.TWO_ENDS,
    AnnotationType.LINE: geometry.TWO_ENDS,
    AnnotationType.RECTANGLE: geometry.CORNERS,
    AnnotationType.ELLIPSE: geometry.ELLIPSE,
    AnnotationType.POLYGON: geometry.OUTLINE,
    AnnotationType.FREEHAND: geometry.PATH,
    AnnotationType.TEXT: geometry.ONE_PLACE,
    AnnotationType.ANGLE: geometry.ANGLE,
    AnnotationType.ROI: geometry.OUTLINE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How an annotation looks.

    Attributes:
        color, fill_color: as ``#ffff00``; an empty *fill_color*: it is not filled.
        line_width, font_size: in points of the screen.
        fill_opacity: from 0 to 1.
    """

    color: str = "#ffff00"
    line_width: float = 1.0
    fill_color: str = ""
    fill_opacity: float = 0.0
    font_family: str = ""
    font_size: float = 14.0

    def check(self) -> None:
        """Raises:
        AnnotationError: something of it makes no sense.
        """
        if _COLOUR.fullmatch(self.color) is None:
            raise AnnotationError("style.color: write a colour as #ffff00")
        if self.fill_color and _COLOUR.fullmatch(self.fill_color) is None:
            raise AnnotationError("style.fill_color: write a colour as #ffff00")
        if not 0 < self.line_width <= 100:
            raise AnnotationError("style.line_width: more than 0, at most 100")
        if not 0 <= self.fill_opacity <= 1:
            raise AnnotationError("style.fill_opacity: from 0 to 1")
        if not 0 < self.font_size <= 500:
            raise AnnotationError("style.font_size: more than 0, at most 500")
        if len(self.font_family) > _MOST_FONT or not self.font_family.isprintable():
            raise AnnotationError(f"style.font_family: at most {_MOST_FONT} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """An annotation, without what says on which image and whose it is."""

    type: AnnotationType
    points: Sequence[Point]
    text: str = ""
    style: Style = Style()

    def checked(self, columns: int, rows: int) -> Self:
        """The same with points that are on an image of that size.

        Raises:
            AnnotationError, GeometryError: it makes no sense there.
        """
        self.style.check()
        if self.type is AnnotationType.TEXT and not self.text.strip():
            raise AnnotationError("an annotation of type text has a text")
        check_text(self.text)
        points = check_points(self.points, RULES[self.type], columns, rows)
        if self.type is AnnotationType.ELLIPSE:
            geometry.ends_of_axes(points)
        return type(self)(type=self.type, points=points, text=self.text, style=self.style)

    def content(self) -> str:
        """All of it but the type, JSON."""
        style = self.style
        return orjson.dumps(
            {
                "points": self.points,
                "text": self.text,
                "style": {
                    "color": style.color,
                    "line_width": style.line_width,
                    "fill_color": style.fill_color,
                    "fill_opacity": style.fill_opacity,
                    "font_family": style.font_family,
                    "font_size": style.font_size,
                },
            }
        ).decode()

    @classmethod
    def of(cls, form: str, content: str) -> Self:
        """That which `content` wrote."""
        said: dict[str, Any] = orjson.loads(content)
        return cls(
            type=AnnotationType(form),
            points=[(x, y) for x, y in said["points"]],
            text=said["text"],
            style=Style(**said["style"]),
        )


def check_text(text: str, name: str = "text") -> None:
    """Raises:
    AnnotationError: it is too long, or has characters that no text has.
    """
    if len(text) > MOST_TEXT:
        raise AnnotationError(f"{name}: at most {MOST_TEXT} characters")
    if not all(one.isprintable() or one in "\r\n\t" for one in text):
        raise AnnotationError(f"{name}: characters that cannot be shown")
