"""One association under trio: its driver, operations, requestor and server.

How an association lives.  `AssociationDriver.run` is the reader.  It is the only
one who receives; each chunk goes through the engine at once and what follows is
carried out before the next is read, so a slow consumer slows the peer and
nothing piles up.  A request starts an *operation*: a task in the
association's own nursery, bounded by the negotiated asynchronous operations window.  Its data
set reaches it through a rendezvous (the backpressure).  A response goes to the
invocation that waits for its Message ID.

Two lanes: fragments wait for whoever consumes them, but an abort cancels the
operations' scope and a C-CANCEL sets its operation's flag as soon as they are
read.

There is no writer task and no queue: whoever sends holds the sending lock and
waits for the socket.  A message is never interleaved with another.

Every wait has a deadline from `Deadlines`; no number stands here.

An `AssociationDriver` is one object, and each module here is one side of it, each built on the
one before: what stands and how it ends (`state`), what is sent (`sender`), what we ask
(`invoker`), what the peer asks (`performer`, with the `operation` that it performs), and the
reader that carries it all (`driver`).  They share its attributes: every message passes through
all of them, and nothing is handed on between.  Three objects in its place would each reach into
the others' state for every PDU.
"""

from isocenter.services.association.driver import AssociationDriver, AssociationRequestHandler
from isocenter.services.association.state import TrafficCounters

__all__ = ["AssociationDriver", "AssociationRequestHandler", "TrafficCounters"]
