"""Fourth step: an archive with all its services, made of settings, and what it says of itself.

    python examples/learning/mini_pacs.py FOLDER --port 11112
    isocenter storescu PACS@127.0.0.1:11112 images/
    isocenter findscu PACS@127.0.0.1:11112 -o table

It is what `isocenter serve` runs, less its process: storage, query and retrieve, worklist,
performed procedure steps and storage commitment over one index.
"""

import argparse
from collections import Counter
from pathlib import Path

import trio

from isocenter.services import ListenAddress, serve
from isocenter.services.composition.archive import open_archive_parts
from isocenter.services.composition.services import build_services
from isocenter.services.notices import InstanceStored, Notice, Notices, OperationEnded
from isocenter.services.service_classes.worklist.order_fields import entry_of_order
from isocenter.services.settings.loading import load_settings
from isocenter.services.testing import SyntheticData

statistics: Counter[str] = Counter()


def count(notice: Notice) -> None:
    match notice:
        case OperationEnded(command=command):
            statistics[command] += 1
            print(dict(statistics), flush=True)
        case InstanceStored(size=size):
            statistics["bytes"] += size


async def main(folder: Path, port: int) -> None:
    settings = load_settings(
        environ={},
        overrides={"server.ae_title": "PACS", "storage.data_dir": str(folder)},
        changes={},
    )
    notices = Notices(count)
    async with open_archive_parts(settings) as parts:
        # Somebody is planned for today, so that the worklist has something to say.
        entry, _ = entry_of_order(SyntheticData().worklist_entry(), "example")
        await parts.stores.worklist.put([entry], source="example")
        services = build_services(settings, parts.archive, parts.stores, tls=None, notices=notices)
        await serve(services, [ListenAddress(host="127.0.0.1", port=port)], notices=notices)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=11112)
    arguments = parser.parse_args()
    trio.run(main, arguments.folder.absolute(), arguments.port)
