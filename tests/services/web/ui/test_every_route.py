"""What holds on every page and for every form: text stays text, and others change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlencode

import pytest

from isocenter.engine.dataset import EXPLICIT_LITTLE, write_data_set
from isocenter.services.archive.index.attributes import ATTRIBUTES
from isocenter.services.dicom.attribute_list import AttributeList
from isocenter.services.security.access.rejected_callers import RejectedCaller, RejectedFile
from isocenter.services.service_classes.mpps.performed_step import step_of_create
from isocenter.services.web.forms import CONTENT_TYPE
from isocenter.services.web.principal import PUBLIC
from services.archive_support import CT, store, uid
from services.service_classes.mpps.samples import UID, begun
from services.service_classes.worklist.samples import entry as planned
from services.web.signed_in import Site
from services.web.ui.people import PLACES

EVIL: Final = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
STUDY, SERIES, NUMBER = "1.2.77", "1.2.77.1", 77
TEXTS: Final = frozenset({"LO", "SH", "LT", "ST", "PN", "CS", "AS", "DS", "IS", "UT", "DA", "TM"})
#: All that pages ask their address for.
QUERY: Final = urlencode(
    dict.fromkeys(
        ("name", "patient", "accession", "description", "modality", "first", "last", "page", "ae",
         "event", "find", "section", "state", "destination", "station", "day", "calling", "called",
         "born", "level", "image", "next", "set", "node", "study"),
        EVIL,
    )
)  # fmt: skip


class Elements(HTMLParser):
    """The elements of a page, each with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def evil_data_set() -> bytes:
    """An object that says `EVIL` in every text that the index keeps."""
    elements = {
        0x00080005: ("CS", b"ISO_IR 192"),
        0x00080016: ("UI", CT.encode()),
        0x00080018: ("UI", uid(NUMBER).encode()),
        0x0020000D: ("UI", STUDY.encode()),
        0x0020000E: ("UI", SERIES.encode()),
    }
    for one in ATTRIBUTES:
        if one.vr in TEXTS and not one.computed:
            elements[one.tag] = (one.vr, EVIL.encode() + b" " * (len(EVIL) % 2))
    rows = [(tag, vr, value) for tag, (vr, value) in sorted(elements.items())]
    return write_data_set(rows, EXPLICIT_LITTLE)


@pytest.fixture
async def evil(site: Site) -> Site:
    """An archive to which everybody has said `EVIL` wherever they could."""
    await store(site.parts.archive, NUMBER, evil_data_set())
    stores = site.parts.stores
    await stores.worklist.put(
        [planned(1, patient_name=EVIL, patient_id=EVIL, procedure_desc=EVIL, station_name=EVIL)],
        source="command",
    )
    attributes = AttributeList.from_dataset(begun())
    step = step_of_create(f"{UID}.1", attributes, source_ae_title=EVIL, now=1_000.0)
    assert await stores.steps.create(step, notify=(), as_ae_title="US")
    RejectedFile(site.file.folder).add(
        [
            RejectedCaller(
                address=EVIL, calling_ae_title=EVIL, called_ae_title=EVIL, certificate=EVIL,
                count=1, first="2026-11-29T10:00:00+00:00", last="2026-11-29T10:00:00+00:00",
                why=EVIL, cure=EVIL,
            )
        ]
    )  # fmt: skip
    policy = site.file.read()
    site.file.change(
        lambda _: replace(
            policy,
            users=(*policy.users, replace(policy.users[0], name="<img src=x>", subjects=(EVIL,))),
        )
    )
    return site


def addresses(site: Site) -> Iterator[str]:
    """Each page that somebody can ask for, about what is there; and with a query of `EVIL`."""
    places = {**PLACES, "study": STUDY, "series": SERIES, "instance": uid(NUMBER)}
    for route in site.routes:
        if route.method == "GET" and "text/html" in route.produces:
            path = route.path.format(**places)
            yield path
            yield f"{path}?{QUERY}"
            yield f"{path}?study={STUDY}"


async def test_text_that_others_have_sent_is_text_on_every_page(evil: Site) -> None:
    cookie = await evil.cookie("a-system")
    shown = 0
    for address in addresses(evil):
        page = await evil.client.get(address, headers=cookie)
        assert page.status_code != 500, address
        if not page.headers.get("content-type", "").startswith("text/html"):
            continue
        assert "<script>alert" not in page.text, address
        assert "{49}" not in page.text, address
        for tag, attributes in Elements(page.text).found:
            assert not any(name.startswith("on") for name in attributes), f"{address}: {tag}"
            assert attributes.get("src") != "x", address
            assert "style" not in attributes, f"{address}: {tag}"
            assert tag != "script" or str(attributes["src"]).startswith("/static/"), address
        assert page.headers["content-security-policy"].startswith("default-src 'none'"), address
        assert page.headers["cache-control"] == "private, no-store", address
        shown += "&lt;script&gt;" in page.text
    assert shown > 20, "it was on many of them"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
async def test_no_form_is_taken_from_a_page_of_others(site: Site, said: dict[str, str]) -> None:
    cookie = await site.cookie("a-system")
    before = site.file.read()
    # What is for everybody asks for a secret, and looks for itself where it comes from.
    forms = [one for one in site.routes if one.method == "POST" and one.needs != PUBLIC]
    assert len(forms) > 20
    for route in forms:
        path = route.path.format(**PLACES)
        headers = {**cookie, "content-type": CONTENT_TYPE, **said}
        answer = await site.client.post(path, content=b"reason=x", headers=headers)
        assert answer.status_code == 403, path
        assert "another origin" in answer.text, path
    assert site.file.read() == before
    assert (await site.parts.archive.index.statistics()).instances == 3
