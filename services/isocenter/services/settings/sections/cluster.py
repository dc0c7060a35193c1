"""Section of the nodes of an archive."""

from __future__ import annotations

import platform
import re
from typing import Final

from isocenter.engine.fast_init import dataclass
from isocenter.services.settings import value_types as kinds
from isocenter.services.settings.field import seconds, setting

_NAME: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,39}")
_OTHER: Final = re.compile(r"[^0-9A-Za-z._-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """This server among those that have one database and one object store (database.url and
    objects.url)."""

    node: str = setting(
        "",
        kinds.Text(
            "up to 40 letters, digits and . _ -",
            lambda text: not text or _NAME.fullmatch(text) is not None,
        ),
        "name of this node; no two that run have the same (empty: the name of the machine)",
        "--node",
        "NAME",
    )
    drain_notice: float = seconds(
        5.0,
        "from the moment that a node which is to end says that it is not ready, until it takes no "
        "connections any more: so long a load balancer has to notice",
    )

    @property
    def name(self) -> str:
        """The name of this node."""
        return self.node or _OTHER.sub("-", platform.node()).strip("-._")[:40] or "node"
