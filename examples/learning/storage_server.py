"""Third step: a server that keeps objects, and lets a function of yours decide before and after.

    python examples/learning/storage_server.py FOLDER --port 11112
    isocenter storescu ANY@127.0.0.1:11112 image.dcm

An object is answered with success when its file is synced to disk.  `refuse` is asked before an
object is kept, and `InstanceStored` is told after it was.
"""

import argparse
from collections import Counter
from pathlib import Path

import trio

from isocenter.services import (
    ListenAddress,
    ObjectFolder,
    OperationError,
    ReceivedObject,
    ServiceRegistry,
    Status,
    VerificationScp,
    serve,
)

WANTED = {"CT", "MR"}
kept: Counter[str] = Counter()


async def refuse(received: ReceivedObject) -> None:
    """Before: whatever is raised here goes to the sender, and nothing is kept."""
    dataset = await received.read(stop_before_pixels=True)
    if dataset.get("Modality") not in WANTED:
        raise OperationError(Status.NOT_AUTHORIZED, "only CT and MR are kept here")
    # After all of the following the file gets its name; the last line is what follows success.
    kept[dataset.Modality] += 1
    print(f"kept {received.sop_instance_uid}: {dict(kept)}", flush=True)


async def main(folder: Path, port: int) -> None:
    objects = ObjectFolder(
        folder, "{study}/{series}/{instance}.dcm", handle=refuse, durable=True, overwrite=True
    )
    await serve(
        ServiceRegistry([VerificationScp(), objects]),
        [ListenAddress(host="127.0.0.1", port=port)],
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=11112)
    arguments = parser.parse_args()
    trio.run(main, arguments.folder, arguments.port)
