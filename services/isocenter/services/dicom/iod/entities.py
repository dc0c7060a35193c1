"""Entities of several objects: patient, study, series, equipment, frame of reference.

What an entity says of itself is the same in each of its objects (PS3.3 A.1.2).
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from typing import Final

from isocenter.services.dicom.iod.findings import Finding
from isocenter.services.dicom.iod.items import Element, Item
from isocenter.services.dicom.iod.table import iod_table

_INSTANCE: Final = 0x00080018
_STUDY: Final = 0x0020000D
_SERIES: Final = 0x0020000E
_FRAME_OF_REFERENCE: Final = 0x00200052
#: Name, what tells one from another, and the modules that describe it.
_ENTITIES: Final = (
    ("patient", _STUDY, ("Patient", "Clinical Trial Subject")),
    ("study", _STUDY, ("General Study", "Patient Study", "Clinical Trial Study")),
    ("series", _SERIES, ("General Series", "Clinical Trial Series")),
    ("equipment", _SERIES, ("General Equipment",)),
    ("frame of reference", _FRAME_OF_REFERENCE, ("Frame of Reference",)),
)
#: Entities that are remembered; of more, nothing is said.
MAX_ENTITIES: Final = 20_000
#: The same of instances.
MAX_INSTANCES: Final = 1_000_000
#: Bytes of a digest.
_DIGEST: Final = 8
#: Of no entity: made anew for each object, or about its pixels.
_NOT_COMPARED: Final = frozenset((0x00280120, 0x00280121))


@cache
def _tags(modules: tuple[str, ...]) -> frozenset[int]:
    rows = (row for name in modules for row in iod_table().module_rows(name))
    return frozenset(row.tag for row in rows) - _NOT_COMPARED


class EntityCheck:
    """Says where an object differs from earlier ones of the same entity."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[int, bytes]] = {}
        self._instances: set[bytes] = set()

    def judge(self, root: Item, prefix: str) -> list[Finding]:
        """Findings about *root*; from then on it is one of the earlier objects.

        Args:
            prefix: of their codes.
        """
        found = self._twice(root, prefix)
        for name, key, modules in _ENTITIES:
            uid = root.text(key)
            if not uid:
                continue
            said = {
                tag: _digest_of(element)
                for tag in _tags(modules)
                if (element := root.elements.get(tag)) is not None and element.items is None
                and not element.is_empty
            }  # fmt: skip
            known = self._known.get((name, uid))
            if known is None:
                if len(self._known) < MAX_ENTITIES:
                    self._known[name, uid] = said
                continue
            found += [
                _difference(root, tag, name, prefix)
                for tag in sorted(said.keys() | known.keys())
                if said.get(tag) != known.get(tag)
            ]
        return found

    def _twice(self, root: Item, prefix: str) -> list[Finding]:
        uid = root.text(_INSTANCE)
        digest = _of_uid(uid)
        if uid and digest in self._instances:
            return [
                Finding(
                    severity="warning", code=f"{prefix}-ENTITY-TWICE",
                    message="is that of an earlier object", tag=_INSTANCE,
                    path=root.path(_INSTANCE), source="PS3.5 9",
                )
            ]  # fmt: skip
        if len(self._instances) < MAX_INSTANCES:
            self._instances.add(digest)
        return []


def _of_uid(uid: str) -> bytes:
    return blake2b(uid.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def _digest_of(element: Element) -> bytes:
    """Of its values as texts, so that it is the same in each transfer syntax."""
    text = "\\".join(element.values) if element.values else str(element.length)
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def _difference(root: Item, tag: int, name: str, prefix: str) -> Finding:
    return Finding(
        severity="warning",
        code=f"{prefix}-ENTITY-DIFFERS",
        message=f"is another than in earlier objects of the same {name}",
        tag=tag,
        path=root.path(tag),
        source="PS3.3 A.1.2",
    )
