"""A service of one's own: a private SOP class that tells the time."""

from collections.abc import Mapping
from datetime import datetime

import trio

from isocenter.engine import NGetRequest, response_to
from isocenter.services import (
    BASIC_SYNTAXES,
    ListenAddress,
    Offer,
    Operation,
    OperationError,
    ServiceRegistry,
    Status,
    VerificationScp,
    build_identifier,
    serve,
)

CLOCK = "2.25.231094387493862397523045823095782304"


class Clock:
    """N-GET is answered with Date and Time."""

    name = "clock"
    statuses: Mapping[int, str] = {Status.SUCCESS: "the time is told"}

    def offer(self, abstract_syntax: str) -> Offer | None:
        return Offer(transfer_syntaxes=BASIC_SYNTAXES) if abstract_syntax == CLOCK else None

    async def perform(self, operation: Operation) -> None:
        if not isinstance(operation.request, NGetRequest):
            raise OperationError(Status.UNRECOGNIZED_OPERATION)
        now = datetime.now().astimezone()
        elements = [("Date", f"{now:%Y%m%d}"), ("Time", f"{now:%H%M%S}")]
        attributes = build_identifier(elements, None, operation.context.transfer_syntax)
        await operation.respond(response_to(operation.request, Status.SUCCESS), attributes)


async def main() -> None:
    await serve(
        ServiceRegistry([VerificationScp(), Clock()]), [ListenAddress(host="127.0.0.1", port=11114)]
    )


if __name__ == "__main__":
    trio.run(main)
