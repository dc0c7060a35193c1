"""Pages as a browser gets them: an archive in a thread, asked over HTTP."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import pydicom
import pytest
import trio
from dicomweb_client.api import DICOMwebClient
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from isocenter.services.archive.archive import Archive
from isocenter.services.association.access import AeTitleRules
from isocenter.services.dicom.pixels.pool import CodecPool, PoolLimits
from isocenter.services.net.http.application import Handler, RoutedApplication
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route, RouteTable
from isocenter.services.net.http.server import HttpServer
from isocenter.services.net.listeners import ListenAddress, open_listener
from isocenter.services.notices import Caller, Notices
from isocenter.services.security.access.access_control import PolicyAccessControl
from isocenter.services.security.access.permissions import ALL_PERMISSIONS
from isocenter.services.security.access.ports import Session
from isocenter.services.security.access.sessions import SessionKeeper, SessionRules
from isocenter.services.web.browser_sessions import BrowserSessions
from isocenter.services.web.dicomweb.service import dicomweb_routes
from isocenter.services.web.parts import Receiver, ServerState, WebParts
from isocenter.services.web.principal import Principal
from isocenter.services.web.sign_in import SignIn
from isocenter.services.web.ui.service import Pages
from isocenter.services.web.ui.study_filter import StudyFilter
from isocenter.storage.database.index.memory import MemoryIndex
from isocenter.storage.objects.memory import MemoryStore
from support.threads import in_thread

FILES = ("CT_small.dcm", "SC_rgb_jpeg_dcmtk.dcm", "rtplan.dcm", "waveform_ecg.dcm")
#: What would run, or count, if it were taken for anything else than text.
EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}"
#: As browsers say it.
HTML = {"accept": "text/html,application/xhtml+xml,image/png,*/*;q=0.8"}
DETAILS = {
    "stored": {"patients": 1, "studies": 2, "series": 3, "instances": 4567, "bytes": 89_000_000},
    "storage": {
        "total_bytes": 100, "used_bytes": 50, "available_bytes": 50, "used_percent": 50.0,
    },
    "associations": {"active": 3, "max": 9, "total": 1234, "rejected": 5, "aborted": 6},
    "version": "1.2.3",
    "uptime_seconds": 3_700.0,
}  # fmt: skip


class NoSessions:
    """Nobody signs in here."""

    async def add(self, session: Session) -> bool:
        return False

    async def find(self, secret_digest: str) -> Session | None:
        return None

    async def lasting(self, now: float) -> Sequence[Session]:
        return ()

    async def note_use(self, session_id: str, now: float) -> None:
        return None

    async def end(self, session_id: str, now: float) -> bool:
        return False


async def state() -> ServerState:
    return ServerState(level="degraded", messages=["the disk is 91 % full"], details=DETAILS)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    notices = Notices()
    access = PolicyAccessControl(AeTitleRules(ae_titles=frozenset({"ARCHIVE"})))
    bind = ListenAddress(host="127.0.0.1", port=0)
    (listener,) = open_listener(bind)
    async with (
        Archive(MemoryStore(), MemoryIndex()) as archive,
        CodecPool(PoolLimits(workers=1)) as pool,
        trio.open_nursery() as nursery,
    ):
        sessions = BrowserSessions(SessionKeeper(NoSessions(), SessionRules()))
        pages = Pages(
            WebParts(
                archive=archive,
                title="ARCHIVE <1>",
                receiver=Receiver(ae_title="ARCHIVE", host="127.0.0.1", port=11112),
                state=state,
                sign_in=SignIn(access, sessions, notices),
            )
        )

        def error_page(request: Request, error: HttpError) -> Response:
            return pages.error(request, error)

        def caller_of(request: Request) -> Caller:
            return Caller(association="test", address=request.host)

        routes = dicomweb_routes(archive, notices, pool=pool, caller_of=caller_of)

        async def authorize(request: Request, route: Route[Handler]) -> None:
            request.caller = Principal(permissions=ALL_PERMISSIONS)

        table = RouteTable([*routes, *pages.routes()])
        application = RoutedApplication(table, authorize=authorize, error_page=error_page)
        server = HttpServer(application)
        nursery.start_soon(server.run, [(listener, bind)])
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.fixture(scope="module")
def root() -> Iterator[str]:
    """The address of an archive that is empty at first."""
    with in_thread(serving) as url:
        yield url


@pytest.fixture(scope="module")
def empty_page(root: str) -> str:
    return httpx.get(f"{root}/", headers=HTML).text


@pytest.fixture(scope="module")
def site(root: str, empty_page: str) -> str:
    """The address of the archive, with `FILES`, `EVIL` and 60 small studies in it."""
    client = DICOMwebClient(f"{root}/dicomweb")
    client.store_instances([read(name) for name in FILES])
    client.store_instances([evil()])
    client.store_instances([small(number) for number in range(60)])
    return root


def read(name: str) -> Dataset:
    path = get_testdata_file(name)
    assert isinstance(path, str)
    return pydicom.dcmread(path)


def evil() -> Dataset:
    """An object that says `EVIL` wherever an attribute takes text."""
    found = read("CT_small.dcm")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(found, keyword, generate_uid(entropy_srcs=["evil", keyword]))
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    for keyword in (
        "PatientID", "PatientName", "StudyDescription", "SeriesDescription", "ProtocolName",
        "InstitutionName", "ReferringPhysicianName", "PatientComments",
    ):  # fmt: skip
        setattr(found, keyword, EVIL[:60])
    found.AccessionNumber = "=1+1"
    return found


def small(number: int) -> Dataset:
    found = read("CT_small.dcm")
    del found.PixelData
    found.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(number)])
    found.SeriesInstanceUID = generate_uid(entropy_srcs=["series", str(number)])
    found.SOPInstanceUID = generate_uid(entropy_srcs=["instance", str(number)])
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID
    found.StudyDate = f"2001{number // 28 + 1:02}{number % 28 + 1:02}"
    found.PatientName = f"Row^{number:02}"
    found.PatientID = f"ROW{number:02}"
    return found


class Elements(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def links(self) -> set[str]:
        return {
            str(attributes[name])
            for _, attributes in self.found
            for name in ("href", "src", "action")
            if name in attributes
        }


def get(url: str) -> httpx.Response:
    return httpx.get(url, headers=HTML)


def names_in(page: httpx.Response) -> list[str]:
    assert page.status_code == 200, page.text
    return re.findall(r'<td><a href="/studies/[^"]+">([^<]*)</a>', page.text)


@pytest.fixture(scope="module")
def crawled(site: str) -> dict[str, httpx.Response]:
    """Every page that links reach from lists of `FILES` and `EVIL`, by its address."""
    found: dict[str, httpx.Response] = {}
    waiting = [f"/?{query}" for query in ("name=*script*", "modality=OT", "modality=RTPLAN")]
    waiting += ["/?modality=ECG", "/upload", "/status"]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = answer = get(urljoin(site, path))
        if not is_page(answer):
            continue
        for link in Elements(answer.text).links():
            target = urlsplit(urljoin(f"{site}{path}", link))
            assert f"{target.scheme}://{target.netloc}" == site, f"{path} leads to {link}"
            if target.path != "/":
                waiting.append(target._replace(scheme="", netloc="").geturl())
    return found


def is_page(answer: httpx.Response) -> bool:
    return answer.headers["content-type"].startswith("text/html")


def test_an_empty_archive_says_how_to_send_to_it(empty_page: str) -> None:
    assert "isocenter storescu ARCHIVE@127.0.0.1:11112 FILE" in empty_page
    assert "/upload" in Elements(empty_page).links()


def test_no_link_is_dead_and_none_leads_elsewhere(crawled: dict[str, httpx.Response]) -> None:
    depths = {urlsplit(path).path.count("/") for path, page in crawled.items() if is_page(page)}
    assert depths >= {2, 4, 6}, "pages of studies, series and instances"
    dead = {path: page.text for path, page in crawled.items() if page.status_code >= 400}
    assert not dead


def test_every_page_forbids_what_is_not_its_own(crawled: dict[str, httpx.Response]) -> None:
    for path, page in crawled.items():
        assert page.headers["x-content-type-options"] == "nosniff"
        if not is_page(page):
            continue
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        for tag, attributes in Elements(page.text).found:
            assert tag != "style", path
            assert tag != "script" or attributes.get("src"), path
            handlers = [name for name in attributes if name.startswith("on") or name == "style"]
            assert not handlers, f"{path}: {tag} {handlers}"


def test_text_of_objects_stays_text(crawled: dict[str, httpx.Response]) -> None:
    shown = 0
    for path, page in crawled.items():
        if is_page(page):
            assert "<script>" not in page.text, path
            assert "{49}" not in page.text, path
            elements = Elements(page.text).found
            assert all(attributes.get("src") != "x" for _, attributes in elements), path
            shown += "&lt;script&gt;" in page.text
    assert shown >= 4, "the list, the study, the series and the attributes"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=row^07", ["Row, 07"]),
        ("name=ow^0*", []),
        ("name=ow^07", ["Row, 07"]),
        ("patient=ROW11", ["Row, 11"]),
        ("first=2001-01-02&last=2001-01-04", ["Row, 03", "Row, 02", "Row, 01"]),
        ("last=2001-01-01", ["Row, 00"]),
        ("modality=rtplan", ["Last, First mid, pre"]),
        ("accession=nothing", []),
        ("name=row^05&unknown=1", ["Row, 05"]),
    ],
)
def test_the_form_finds_what_it_says(site: str, query: str, expected: list[str]) -> None:
    found = names_in(get(f"{site}/?{query}"))
    if "rtplan" in query:
        assert len(found) == 1
    else:
        assert found == expected


@pytest.mark.parametrize("query", ["first=yesterday", "last=2001-02-30", "first=2001-13-01"])
def test_a_day_that_is_none_is_told(site: str, query: str) -> None:
    page = get(f"{site}/?{query}")
    assert page.status_code == 400
    assert "write a day as 2026-11-29" in page.text
    assert dict(parse_qsl(query))[query.partition("=")[0]] in page.text, "and can be mended"


def test_pages_of_the_list_neither_overlap_nor_leave_anything_out(site: str) -> None:
    first = get(f"{site}/?patient=ROW*")
    found = names_in(first)
    assert len(found) == 50
    older = next(
        link for link in Elements(first.text).links() if link.startswith("/?") and "page=2" in link
    )
    assert "patient=ROW" in older, "the filter stays in the address"
    second = get(urljoin(site, older))
    assert sorted(found + names_in(second)) == [f"Row, {number:02}" for number in range(60)]
    assert "page=3" not in second.text


def test_the_table_holds_all_rows_and_no_formula(site: str) -> None:
    answer = httpx.get(f"{site}/studies.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="studies.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert len(rows) == 60 + 1 + len(FILES)
    (row,) = [row for row in rows if "script" in row["PatientID"]]
    assert row["AccessionNumber"] == "'=1+1"
    assert [row["PatientName"] for row in rows if row["PatientID"] == "ROW07"] == ["Row, 07"]
    some = httpx.get(f"{site}/studies.csv?patient=ROW0*")
    assert len(some.content.splitlines()) == 11


def test_a_series_begins_with_the_image_that_is_asked_for(site: str) -> None:
    study = read("SC_rgb_jpeg_dcmtk.dcm")
    url = f"{site}/studies/{study.StudyInstanceUID}/series/{study.SeriesInstanceUID}"
    for query in ("", "?image=1", "?image=99999999", "?image=-1", "?image=x"):
        page = get(url + query)
        (source,) = [
            str(attributes["src"]) for tag, attributes in Elements(page.text).found if tag == "img"
        ]
        picture = httpx.get(urljoin(site, source))
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content[:2] == b"\xff\xd8"


def test_an_instance_shows_its_attributes(site: str) -> None:
    plan = read("rtplan.dcm")
    url = f"{site}/studies/{plan.StudyInstanceUID}/series/{plan.SeriesInstanceUID}"
    text = get(f"{url}/instances/{plan.SOPInstanceUID}").text
    for words in ("(300A,0002)", "RT Plan Label", plan.RTPlanLabel):
        assert words in text
    assert text.count("Item 1") >= len(plan.FractionGroupSequence)
    assert "1.2.840.10008.5.1.4.1.1.481.5 (RT Plan Storage)" in text


@pytest.mark.parametrize(
    "path", ["/studies/1.2.3", "/studies/x/series/1", "/nothing", "/static/0/x"]
)
def test_what_is_not_there_is_told_on_a_page(site: str, path: str) -> None:
    page = get(site + path)
    assert page.status_code == 404
    assert "There is nothing here" in page.text
    assert page.headers["x-request-id"] in page.text


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("/elsewhere", "[[sharing.repositories]]"),
        ("/publications", "[[sharing.repositories]]"),
        ("/prints", "print.enabled = true"),
    ],
)
def test_a_page_that_is_switched_off_says_what_brings_it(site: str, path: str, cure: str) -> None:
    page = get(site + path)
    assert page.status_code == 404
    assert cure in page.text


def test_an_instance_of_another_series_is_not_there(site: str) -> None:
    plan, ct = read("rtplan.dcm"), read("CT_small.dcm")
    url = f"{site}/studies/{ct.StudyInstanceUID}/series/{ct.SeriesInstanceUID}"
    assert get(f"{url}/instances/{plan.SOPInstanceUID}").status_code == 404


def test_assets_are_kept_for_ever_under_an_address_of_their_content(site: str) -> None:
    sheet = next(link for link in Elements(get(site).text).links() if link.endswith(".css"))
    answer = httpx.get(urljoin(site, sheet))
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    other = httpx.get(re.sub(r"/static/[0-9a-f]+/", "/static/0/", urljoin(site, sheet)))
    assert other.headers["cache-control"] == "no-store"


def test_the_first_page_is_light(site: str) -> None:
    """Sixty kilobytes with all that it needs."""
    page = get(site)
    size = len(page.content)
    for link in Elements(page.text).links():
        if link.startswith("/static/"):
            size += len(httpx.get(urljoin(site, link)).content)
    assert size < 60_000


def test_the_state_is_told_in_words(site: str) -> None:
    text = get(f"{site}/status").text
    for words in ("Degraded", "the disk is 91 % full", "4,567", "89 MB", "1,234", "1:01:40"):
        assert words in text


def test_upload_names_the_service_it_uses(site: str) -> None:
    page = get(f"{site}/upload")
    (box,) = [
        attributes
        for tag, attributes in Elements(page.text).found
        if attributes.get("id") == "upload"
    ]
    assert box["data-root"] == "/dicomweb"


def test_presets_are_days_from_today_on() -> None:
    presets = StudyFilter(name="a b", first="1999-01-01").presets(date(2026, 3, 1))
    assert presets == {
        "Today": "?name=a+b&first=2026-03-01",
        "Yesterday": "?name=a+b&first=2026-02-28&last=2026-02-28",
        "Last 7 days": "?name=a+b&first=2026-02-23",
        "Last 30 days": "?name=a+b&first=2026-01-31",
        "Any date": "?name=a+b",
    }
