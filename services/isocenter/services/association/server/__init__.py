"""DICOM server: listeners, a task for each connection, bounds on strangers, a graceful stop.

Accepting and serving live in different nurseries.  Stopping closes the
listeners, aborts associations that are idle, lets the others finish what they
perform until the grace deadline, then aborts them too.

What a stranger costs before it has associated: a socket, a task and nothing
else; TLS state is made when its first byte has come.  One deadline covers
everything from accept to the A-ASSOCIATE answer.

`admission` counts who is there and says whether there is room, `request_handler` decides on
an A-ASSOCIATE-RQ, `connection` handles one connection from accept to close, and `server`
accepts, starts and stops; `options` is what of it can be chosen, and `live` is what somebody
sees who looks.
"""

from isocenter.services.association.server.admission import ServerLimits
from isocenter.services.association.server.live import (
    AssociationEndedByHand,
    LiveAssociation,
)
from isocenter.services.association.server.options import (
    DEFAULT_GRACE_SECONDS,
    ServerOptions,
    WrapTransport,
)
from isocenter.services.association.server.server import (
    Server,
    serve,
    serve_on,
)
from isocenter.services.association.server.statistics import Statistics
from isocenter.services.net.listeners import ListenAddress

__all__ = [
    "DEFAULT_GRACE_SECONDS",
    "AssociationEndedByHand",
    "ListenAddress",
    "LiveAssociation",
    "Server",
    "ServerLimits",
    "ServerOptions",
    "Statistics",
    "WrapTransport",
    "serve",
    "serve_on",
]
