"""What searches over HTTP (QIDO-RS) cost in small and large archives.

Run it from the repository::

    PYTHONPATH=engine:services:storage python benchmarks/search.py [--dir DIR] [--studies N …]

Fills an index with N studies (of each N that is given), or takes the one that is in DIR already;
serves it on loopback; and prints the median and the 99th percentile of the milliseconds that a
viewer waits for a page of 101 studies, and the CPU time of server and client together, which does
not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import functools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlencode

import httpx
import trio

from isocenter.services.archive.archive import Archive
from isocenter.services.archive.ports import InstanceRecord
from isocenter.services.net.http.application import RoutedApplication
from isocenter.services.net.http.routing import RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.notices import Caller, Notices
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.storage.database.index.index import DatabaseIndex
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.objects.memory import MemoryStore

BATCH = 1_000
TIMES = 100
MODALITIES = ("CT",) * 8 + ("MR",) * 5 + ("CR",) * 4 + ("US",) * 2 + ("NM",)
SYLLABLES = [one + two for one in "bdklmnst" for two in "aeio"]
DESCRIPTIONS = ("CT ABDOMEN", "MR KNEE LEFT", "CHEST PA", "US LIVER", "BONE SCAN", "MR HEAD")
#: What OHIF asks for in its list of studies.
PAGE = {"limit": "101", "includefield": "00081030,00080060,00080090,00100030"}


def records(
    studies: int, since: float | None = None, every: float = 0.0
) -> Iterator[InstanceRecord]:
    """One instance of each series of so many studies, from twenty years, in no order of dates.

    Args:
        since: seconds since 1970 when the first came, and *every* so many seconds one of one
            series; None: all came now, of one to three series.
    """
    chance = random.Random(17)
    names = [
        "".join(chance.choices(SYLLABLES, k=3)).capitalize()
        + "^"
        + "".join(chance.choices(SYLLABLES, k=2)).capitalize()
        for _ in range(max(1, studies // 2))
    ]
    for study in range(studies):
        patient = chance.randrange(len(names))
        day = time.gmtime(1_120_000_000 + chance.randrange(20 * 365) * 86_400)
        most = chance.choice((1, 1, 2, 3)) if since is None else 1
        for series in range(1, most + 1):
            uid = f"1.2.826.0.1.3680043.8.498.{study}"
            yield InstanceRecord(
                sop_instance_uid=f"{uid}.{series}.1",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
                study_instance_uid=uid,
                series_instance_uid=f"{uid}.{series}",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                object_key=f"ab/{uid}/{uid}.{series}.1",
                size=525_000,
                data_set_offset=350,
                digest=f"{study:060x}{series:04x}",
                stored_at=None if since is None else since + study * every,
                attributes={
                    0x00100010: names[patient],
                    0x00100020: f"ID{patient:07}",
                    0x00100030: f"19{patient % 90 + 10}0{patient % 9 + 1}15",
                    0x00100040: "FM"[patient % 2],
                    0x00080020: time.strftime("%Y%m%d", day),
                    0x00080030: f"{8 + study % 10:02}{study % 60:02}{patient % 60:02}",
                    0x00080050: f"ACC{study:07}",
                    0x00080090: "Referrer^Some",
                    0x00081030: DESCRIPTIONS[study % len(DESCRIPTIONS)],
                    0x00200010: str(study),
                    0x00080060: chance.choice(MODALITIES),
                    0x00200011: str(series),
                    0x0008103E: "axial 5 mm",
                    0x00200013: "1",
                },
            )


QUESTIONS: Sequence[tuple[str, dict[str, str]]] = (
    ("no filter", {}),
    ("no filter, fuzzymatching", {"fuzzymatching": "true"}),
    ("offset of half of all", {"offset": "half"}),
    ("name by prefix, many", {"PatientName": "ba*"}),
    ("name by prefix, few", {"PatientName": "bakola*"}),
    ("name by wild card, many", {"PatientName": "*ko*"}),
    ("name by wild card, few", {"PatientName": "*kolabe^kiko*"}),
    ("name by wild card, none", {"PatientName": "*xyz*"}),
    ("name, fuzzymatching", {"PatientName": "bakola*", "fuzzymatching": "true"}),
    ("patient ID", {"PatientID": "ID0000007"}),
    ("accession number", {"AccessionNumber": "ACC0000700"}),
    ("dates, a year", {"StudyDate": "20140101-20141231"}),
    ("dates, a day", {"StudyDate": "20140207"}),
    ("dates, since", {"StudyDate": "20060101-"}),
    ("dates and times", {"StudyDate": "20140101-20141231", "StudyTime": "1000-1200"}),
    ("modality, many", {"ModalitiesInStudy": "CT"}),
    ("modality, none", {"ModalitiesInStudy": "XA"}),
    ("modalities, one rare", {"ModalitiesInStudy": "XA,NM"}),
    ("name, dates, modality", {
        "PatientName": "*ko*", "StudyDate": "20140101-20151231", "ModalitiesInStudy": "MR",
    }),
    ("description", {"StudyDescription": "*KNEE*"}),
    ("sex", {"PatientSex": "F"}),
)  # fmt: skip


async def measure(url: str, studies: int, only: str) -> None:
    async with httpx.AsyncClient() as client:
        for name, filters in QUESTIONS:
            if only not in name:
                continue
            asked = PAGE | filters
            if asked.get("offset") == "half":
                asked["offset"] = str(studies // 2)
            address = f"{url}/studies?{urlencode(asked)}"
            taken = []
            number = 0
            spent = time.process_time()
            for _ in range(TIMES):
                begin = time.perf_counter()
                answer = await client.get(address, headers={"accept-encoding": "identity"})
                taken.append((time.perf_counter() - begin) * 1e3)
                number = len(answer.raise_for_status().json())
            taken.sort()
            spent = (time.process_time() - spent) / TIMES * 1e3
            print(
                f"{studies:8} studies, {name:26} {number:4} found: "
                f"p50 {taken[TIMES // 2]:7.2f} ms, p99 {taken[TIMES * 99 // 100]:7.2f} ms, "
                f"CPU of both {spent:6.2f} ms"
            )


def caller_of(request: object) -> Caller:
    return Caller(association="benchmark", address="127.0.0.1")


async def main(folder: Path, studies: int, only: str) -> None:
    async with open_sqlite_database(
        folder / f"search-{studies}.db", durability="relaxed"
    ) as database:
        index = DatabaseIndex(database)
        if not (await index.statistics()).studies:
            begin = time.perf_counter()
            batch = []
            for record in records(studies):
                batch.append(record)
                if len(batch) == BATCH:
                    await index.add(batch)
                    batch = []
            await index.add(batch)
            print(f"filled with {studies} studies in {time.perf_counter() - begin:.1f} s")
        bind = ListenAddress(host="127.0.0.1", port=0)
        (listener,) = open_listener(bind)
        async with Archive(MemoryStore(), index) as archive, trio.open_nursery() as nursery:
            routes = dicomweb_routes(archive, Notices(), caller_of=caller_of)
            server = HttpServer(RoutedApplication(RouteTable(routes)))
            nursery.start_soon(server.run, [(listener, bind)])
            await measure(f"http://127.0.0.1:{listener.getsockname()[1]}/dicomweb", studies, only)
            nursery.cancel_scope.cancel()
        listener.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dir", type=Path, help="where databases are and stay; default: a temporary folder"
    )
    parser.add_argument("--studies", type=int, nargs="*", default=[1_000, 100_000])
    parser.add_argument("--only", default="", help="questions whose name has this")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for number in options.studies:
            trio.run(functools.partial(main, options.dir or Path(temporary), number, options.only))
