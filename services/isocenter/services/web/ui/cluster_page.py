"""Page of the nodes that have the archive together."""

from __future__ import annotations

from collections.abc import Iterator

from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.cluster_nodes import ClusterNodes
from isocenter.services.web.principal import caller_of
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page
from isocenter.services.web.ui.reasoned_forms import to, unavailable

_PATH = "/cluster"


class ClusterPage:
    """Answers with nodes, ends and forgets them."""

    def __init__(self, nodes: ClusterNodes, layout: Layout) -> None:
        self._nodes = nodes
        self._layout = layout

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        yield page(_PATH, "state", self.list, "Servers that have this archive together.")
        yield action(
            f"{_PATH}/{{node}}/drain", "configure", self.drain,
            "Have a node end after its last association.",
        )  # fmt: skip
        yield action(
            f"{_PATH}/{{node}}/remove",
            "configure",
            self.remove,
            "Forget a node that does not live.",
        )

    async def list(self, request: Request) -> Response:
        """The handler of the page."""
        try:
            nodes = await self._nodes.all()
        except StorageError as error:
            raise unavailable() from error
        return self._layout.page(request, "cluster.html", section="cluster", nodes=nodes)

    async def drain(self, request: Request) -> Response:
        """The handler of the button that ends a node."""
        try:
            await self._nodes.drain(request.arguments["node"], caller_of(request))
        except StorageError as error:
            raise unavailable() from error
        return to(_PATH)

    async def remove(self, request: Request) -> Response:
        """The handler of the button that forgets a node."""
        try:
            await self._nodes.remove(request.arguments["node"], caller_of(request))
        except StorageError as error:
            raise unavailable() from error
        return to(_PATH)
