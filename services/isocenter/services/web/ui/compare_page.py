"""Page of two instances side by side: pictures, and the attributes that differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from isocenter.engine.fast_init import dataclass
from isocenter.engine.uid import is_uid
from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import StoredInstance
from isocenter.services.dicom.uid_registry import name_of
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.dicomweb.urls import ROOT, instance_url
from isocenter.services.web.ui.attribute_rows import AttributeRow, attribute_rows
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import page

#: Where a row stands: tags, and items of their sequences.
_Path = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """An attribute of two instances; None: one of them has it not."""

    left: AttributeRow | None
    right: AttributeRow | None

    @property
    def either(self) -> AttributeRow:
        """What says where it stands."""
        found = self.left or self.right
        assert found is not None
        return found

    @property
    def differs(self) -> bool:
        return self.left != self.right


class ComparePage:
    """Answers with two instances."""

    def __init__(self, archive: Archive, layout: Layout) -> None:
        self._archive = archive
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield page("/compare", "read", self.show, "Two instances side by side.")

    async def show(self, request: Request) -> Response:
        """The handler."""
        uids = [(request.parameter(name) or "").strip() for name in ("one", "other")]
        if not any(uids):
            return self._page(request, uids)
        if not all(map(is_uid, uids)):
            raise HttpError(400, "BAD_QUERY", "name two instances by their SOP Instance UIDs")
        found = await self._archive.index.get(uids)
        if not all(uid in found for uid in uids):
            raise HttpError(404, "NOT_FOUND", "the archive has no such instance")
        left, right = (found[uid] for uid in uids)
        rows = compared(await self._rows(left), await self._rows(right))
        return self._page(request, uids, [_side(left), _side(right)], rows)

    def _page(
        self,
        request: Request,
        uids: Sequence[str],
        sides: Sequence[Mapping[str, str]] = (),
        rows: Sequence[ComparedRow] = (),
    ) -> Response:
        shows_all = request.parameter("all") is not None
        return self._layout.page(
            request,
            "compare.html",
            section="studies",
            sides=sides,
            rows=rows if shows_all else [one for one in rows if one.differs],
            differences=sum(one.differs for one in rows),
            shows_all=shows_all,
            one=uids[0],
            other=uids[1],
        )

    async def _rows(self, stored: StoredInstance) -> Sequence[AttributeRow]:
        return await attribute_rows(partial(self._archive.open, stored), stored)


def compared(left: Sequence[AttributeRow], right: Sequence[AttributeRow]) -> list[ComparedRow]:
    """The rows of two instances beside each other, in the order of their tags."""
    lefts, rights = _by_path(left), _by_path(right)
    paths = sorted({*lefts, *rights})
    return [ComparedRow(left=lefts.get(path), right=rights.get(path)) for path in paths]


def _by_path(rows: Sequence[AttributeRow]) -> Mapping[_Path, AttributeRow]:
    """Each row by where it stands; what comes twice stands beside itself only once."""
    found: dict[_Path, AttributeRow] = {}
    item: dict[int, _Path] = {0: ()}
    last: dict[int, _Path] = {}
    for row in rows:
        if row.tag:
            path = (*item[row.depth], row.tag)
            last[row.depth] = path
        else:
            number = row.name.rpartition(" ")[2]
            path = (*last[row.depth - 1], f"{number:>6}")
            item[row.depth] = path
        found[path] = row
    return found


def _side(stored: StoredInstance) -> Mapping[str, str]:
    study, series, uid = (
        stored.study_instance_uid, stored.series_instance_uid, stored.sop_instance_uid,
    )  # fmt: skip
    return {
        "uid": uid,
        "sop_class": name_of(stored.sop_class_uid) or stored.sop_class_uid,
        "address": f"/studies/{study}/series/{series}/instances/{uid}",
        "picture": f"{instance_url(ROOT, study, series, uid)}/rendered?viewport=512,512",
    }
