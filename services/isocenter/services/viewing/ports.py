"""Ports of marks, states of viewers and studies seen, and their values."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from isocenter.engine.fast_init import dataclass


class MarkKind(Enum):
    """What somebody notes on an image."""

    ANNOTATION = "annotation"
    MEASUREMENT = "measurement"
    KEY_IMAGE = "key_image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What somebody noted on one image.

    Attributes:
        form: of an annotation or a measurement its type; of a key image the code of its title.
        study_instance_uid, series_instance_uid, sop_class_uid: of the image, as the archive has
            it now.
        frame_number: from 1 on.
        content: the rest, JSON.
        version: from 1 on, one more with each change.
        created_at, changed_at: seconds since 1970.
    """

    mark_id: str
    kind: MarkKind
    form: str
    sop_instance_uid: str
    frame_number: int
    author: str
    content: str
    version: int = 1
    created_at: float = 0.0
    changed_at: float = 0.0
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_class_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkChoice:
    """Which marks are meant: those for which all of this holds; empty: whatever it is."""

    kind: MarkKind
    form: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    author: str = ""
    mark_ids: tuple[str, ...] = ()


class Marks(Protocol):
    """Keeps marks.  Failures are `StorageError`.

    A mark is seen as long as the archive has its image: it goes into the trash with it, comes back
    with it, and is gone when the image is removed for good.
    """

    async def add(self, mark: Mark) -> Mark | None:
        """Keep one more; as it is kept.  None: the archive has no such image."""
        ...

    async def find(self, kind: MarkKind, mark_id: str) -> Mark | None: ...

    async def chosen(
        self,
        choice: MarkChoice,
        *,
        limit: int,
        offset: int = 0,
        after: tuple[float, str] | None = None,
    ) -> tuple[Sequence[Mark], int]:
        """Some of the marks that are meant, the oldest first; and how many there are in all.

        Args:
            after: when a mark was made, and its ID: only those behind it.
        """
        ...

    async def change(self, mark: Mark) -> Mark | None:
        """Give a mark the form, frame, content and time of change of *mark*.

        None: it is not there, or has another version than *mark* says.
        """
        ...

    async def remove(self, mark_id: str, version: int | None = None) -> bool:
        """False: it is not there, or has another version."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerState:
    """How somebody had a study on the screen.

    Attributes:
        content: what the viewer wants to know again, JSON.
        created_at: seconds since 1970.
    """

    state_id: str
    study_instance_uid: str
    author: str
    content: str
    created_at: float


class ViewerStates(Protocol):
    """Keeps states of viewers, as long as the archive has the study.  Failures are
    `StorageError`."""

    async def add(self, state: ViewerState, *, most: int) -> bool:
        """Keep one more, and of its author the last *most* only; False: there is no such study."""
        ...

    async def find(self, state_id: str) -> ViewerState | None: ...

    async def chosen(
        self, *, author: str, study_instance_uid: str = "", limit: int
    ) -> Sequence[ViewerState]:
        """The last ones first."""
        ...

    async def remove(self, state_id: str) -> bool:
        """False: there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentStudy:
    """A study that somebody has looked at, and when last, in seconds since 1970."""

    study_instance_uid: str
    accessed_at: float


class RecentStudies(Protocol):
    """Knows what people looked at last.  Failures are `StorageError`."""

    async def note(self, seen: Sequence[tuple[str, RecentStudy]], *, most: int) -> None:
        """These people have looked at these studies; of each person the last *most* are kept."""
        ...

    async def of(self, user: str, *, limit: int) -> Sequence[RecentStudy]:
        """Those that the archive has, the last first."""
        ...
