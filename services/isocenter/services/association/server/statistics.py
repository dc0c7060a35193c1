"""Statistics of a server since it started."""

from __future__ import annotations

from isocenter.engine.fast_init import dataclass


@dataclass(slots=True)
class Statistics:
    """Counters of a server since it started."""

    connections: int = 0
    associations: int = 0
    rejected: int = 0
    #: Ended without a release: by A-ABORT of either side, or as the connection was lost.
    aborted: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    #: Operations of peers that have ended.
    operations: int = 0
