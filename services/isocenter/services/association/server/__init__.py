"""`serve`: listeners, one task per connection, bounds on strangers, and a graceful stop.

Accepting and serving live in different nurseries.  Stopping closes the
listeners, aborts associations that are idle, lets the others finish what they
perform until the grace deadline, then aborts them too.

What a stranger costs before it has associated: a socket, a task and nothing
else; TLS state is made when its first byte has come.  One deadline covers
everything from accept to the A-ASSOCIATE answer.

`admission` counts who is there and says whether there is room, `answering` answers an
A-ASSOCIATE-RQ, `connection` carries one connection from accept to close, and `serving`
listens, starts and stops.
"""

from isocenter.services.association.server.admission import ServerLimits
from isocenter.services.association.server.connection import Record
from isocenter.services.association.server.server import (
    DEFAULT_GRACE_SECONDS,
    Server,
    serve,
    serve_on,
)
from isocenter.services.association.server.statistics import Statistics
from isocenter.services.net.listeners import Bind

__all__ = [
    "DEFAULT_GRACE_SECONDS",
    "Bind",
    "Record",
    "Server",
    "ServerLimits",
    "Statistics",
    "serve",
    "serve_on",
]
