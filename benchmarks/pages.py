"""What the pages of a large archive cost: `python benchmarks/pages.py --dir DIR --studies 1000000`.

Run it from the repository with ``PYTHONPATH=engine:services:storage``.  Fills an archive in DIR
with studies of one image each (rows only, there are no files), or takes the one that is there;
starts a server on it, asks for each page several times, and prints the shortest time that a client
waited, the CPU time of the server, and the size of the answer.  1,000,000 studies take 2 GB, which
stay in DIR.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import httpx
import trio
from peers.programs import Program, free_port, started
from peers.servers import ISOCENTER
from search import records

from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.storage.stores import StoresOptions, open_sqlite_stores

BATCH: Final = 2_000
#: Everything came within so many seconds.
YEAR: Final = 365 * 86_400
DEEP: Final = 1_000
#: Seconds; what takes so long is not asked for again.
LONG: Final = 10.0

PAGES: Final = {
    "studies": "/",
    "studies, name in the middle, many": "/?name=ko",
    "studies, name in the middle, few": "/?name=kolabe^kiko",
    "studies, name, none": "/?name=xyz",
    "studies, patient ID": "/?patient=ID0000007",
    "studies, accession": "/?accession=ACC0000700",
    "studies, accession, none": "/?accession=xyz",
    "studies, accession by prefix": "/?accession=ACC00007*",
    "studies, description, many": "/?description=KNEE",
    "studies, description, none": "/?description=xyz",
    "studies, modality, many": "/?modality=CT",
    "studies, modality, few": "/?modality=NM",
    "studies, modality, none": "/?modality=XA",
    "studies, one day": "/?first=2014-02-07&last=2014-02-07",
    "studies, days, modality": "/?first=2014-01-01&last=2015-12-31&modality=MR",
    "studies, name, days, modality": "/?name=ko&first=2014-01-01&last=2015-12-31&modality=MR",
    "studies, name, modality, none": "/?name=ko&modality=XA",
    "studies, description, modality": "/?description=HEAD&modality=NM",
    "patients": "/patients",
    "patients, name in the middle, many": "/patients?name=ko",
    "patients, name in the middle, few": "/patients?name=kolabe^kiko",
    "patients, name, none": "/patients?name=xyz",
    "patients, ID": "/patients?patient=ID0000007",
    "patients, ID by prefix": "/patients?patient=ID00*",
    "patients, born": "/patients?born=1960-06-15",
    "patients, name and born": "/patients?name=ko&born=1960-06-15",
    "arrivals": "/arrivals",
    "arrivals, incomplete": "/arrivals?state=receiving",
    "storage": "/storage",
    "status": "/status",
    "trash": "/trash",
    "retention": "/retention",
    "rejections": "/rejections",
    "quarantine": "/quarantine",
    "corrections": "/corrections",
    "audit": "/audit",
    "API, studies": "/api/v1/studies?limit=100",
    "API, studies, name": "/api/v1/studies?limit=100&patient_name=*ko*",
    "API, patients": "/api/v1/patients?limit=100",
    "API, storage": "/api/v1/system/storage",
    "API, metrics": "/metrics",
    "studies as CSV": "/studies.csv",
    "patients as CSV": "/patients.csv",
}


async def fill(folder: Path, studies: int) -> None:
    """Rows of so many studies, unless there are some."""
    begin = time.time()
    options = StoresOptions(completion=CompletionRules(), now=lambda: begin)
    async with open_sqlite_stores(folder / "index.db", options, durability="relaxed") as stores:
        if (await stores.index.statistics()).studies:
            return
        batch = []
        for number, record in enumerate(records(studies, begin - YEAR, YEAR / studies)):
            batch.append(record)
            if len(batch) == BATCH or number == studies - 1:
                await stores.index.add(batch)
                batch = []
        print(f"filled in {time.time() - begin:.0f} s")


class Asked:
    """A server, and how long it takes to answer."""

    def __init__(self, program: Program, url: str, times: int) -> None:
        self._program = program
        self._url = url
        self._times = times
        self._client = httpx.Client(base_url=url, timeout=600)

    def get(self, address: str) -> httpx.Response:
        return self._client.get(address).raise_for_status()

    def measure(self, name: str, address: str) -> None:
        times, spent = [], self._program.cpu_seconds()
        while len(times) < self._times + 1 and sum(times) < LONG:
            begin = time.perf_counter()
            answer = self._client.get(address)
            times.append(time.perf_counter() - begin)
        spent = (self._program.cpu_seconds() - spent) / len(times)
        print(
            f"{name:36} {answer.status_code} {min(times) * 1e3:9.1f} ms, "
            f"CPU {spent * 1e3:8.1f} ms, {len(answer.content) / 1e3:9.1f} kB",
            flush=True,
        )

    def walked(self, pages: int) -> Iterator[tuple[str, str]]:
        """Where one is so many pages on, by the links of the pages."""
        for name, path in (("studies", "/"), ("patients", "/patients")):
            address, number = path, 1
            while number < pages and 'rel="next" href="' in (text := self.get(address).text):
                link = text.rpartition('rel="next" href="')[2].partition('"')[0]
                address = urljoin(address, link.replace("&amp;", "&"))
                number += 1
            yield f"{name}, page {number:,} by links", address
            yield f"{name}, page {number:,} by number", f"{path}?page={number}"
        address, number, first = "", 0, "/api/v1/studies?limit=100"
        following = ""
        while following is not None and number < pages:
            address = f"{first}&after={following}" if following else first
            following = self.get(address).json()["pagination"]["next"]
            number += 1
        yield f"API, studies, page {number:,}", address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="where the archive is and stays")
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--only", default="", help="pages whose name has this")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = options.dir
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        trio.run(functools.partial(fill, folder, options.studies))
        ports = free_port(), free_port()
        command = [
            *ISOCENTER, "serve", "--data-dir", folder, "--durability", "relaxed", "--no-tls",
            "--log-level", "error", "--port", ports[0], "--http-port", ports[1],
        ]  # fmt: skip
        program = stack.enter_context(started(command, port=ports[1], folder=folder))
        asked = Asked(program, f"http://127.0.0.1:{ports[1]}", options.times)
        for name, address in PAGES.items():
            if options.only in name:
                asked.measure(name, address)
        if options.only in "page":
            for name, address in asked.walked(min(DEEP, options.studies // 100)):
                asked.measure(name, address)


if __name__ == "__main__":
    main()
