"""Second step: a server that answers C-ECHO, and tells what happens on its associations.

    python examples/learning/echo_server.py --port 11112
    isocenter echoscu ECHO@127.0.0.1:11112

`AeTitleRules` says who may associate; `Notices` carries what happens to whoever listens.
"""

import argparse

import trio

from isocenter.services import (
    AeTitleRules,
    ListenAddress,
    ServiceRegistry,
    VerificationScp,
    serve,
)
from isocenter.services.notices import (
    AssociationEnded,
    AssociationEstablished,
    AssociationRejected,
    Notice,
    Notices,
    OperationEnded,
    ServerStarted,
)


def tell(notice: Notice) -> None:
    match notice:
        case ServerStarted(addresses=[(host, port, _), *_]):
            print(f"listening on {host}:{port}", flush=True)
        case AssociationEstablished(caller=caller):
            print(f"{caller.calling_ae_title} has associated from {caller.address}", flush=True)
        case AssociationRejected(caller=caller):
            print(f"{caller.calling_ae_title} was rejected", flush=True)
        case OperationEnded(command=command, status=status):
            print(f"{command} was answered with {status:04X}H", flush=True)
        case AssociationEnded(operations=operations):
            print(f"an association has ended after {operations} operations", flush=True)


async def main(port: int) -> None:
    await serve(
        ServiceRegistry([VerificationScp()]),
        [ListenAddress(host="127.0.0.1", port=port)],
        access=AeTitleRules(ae_titles=frozenset({"ECHO"})),
        notices=Notices(tell),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=11112)
    trio.run(main, parser.parse_args().port)
