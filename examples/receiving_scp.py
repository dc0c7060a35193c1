"""Receive objects: a Storage SCP that calls a function for each."""

import trio

from isocenter.services import (
    ListenAddress,
    ObjectReceiver,
    ReceivedObject,
    ServiceRegistry,
    VerificationScp,
    serve,
)


async def handle(received: ReceivedObject) -> None:
    dataset = await received.read(stop_before_pixels=True)
    print(dataset.Modality, received.size, "bytes from", received.peer_ae_title, flush=True)


async def main() -> None:
    registry = ServiceRegistry([VerificationScp(), ObjectReceiver(handle)])
    await serve(registry, [ListenAddress(host="127.0.0.1", port=11113)])


trio.run(main)
