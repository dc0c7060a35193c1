"""The statement against what a client can negotiate with the server of the same settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import trio
from pydicom._uid_dict import UID_dictionary

from isocenter.engine.items import ProposedContext, RoleSelection, UserInformation
from isocenter.engine.pdu import AssociateRequest
from isocenter.services import composition
from isocenter.services.archive.index.attributes import ATTRIBUTES
from isocenter.services.association.operation import Operation
from isocenter.services.association.service_registry import (
    COMMON_STATUSES,
    Service,
    ServiceRegistry,
)
from isocenter.services.conformance.statement import statement
from isocenter.services.settings.loading import load_settings
from isocenter.services.web.description.document import markdown
from support.processes import isocenter_command
from support.raw import raw_peer
from support.serving import Scripted, port_of, serving

CONTEXTS_AT_ONCE = 100
#: How rows of a table of statuses begin.
STATUS_ROWS = {f"| {digit}" for digit in "0123456789ABCDEF"}
SETTINGS = {"storage.data_dir": ":memory:", "tls.enabled": False}


@pytest.fixture(scope="module")
def document() -> str:
    done = isocenter_command("conformance", "--data-dir", ":memory:", "--no-tls")
    assert done.returncode == 0, done.stdout
    return done.stdout


def table(document: str, first_column: str) -> list[list[str]]:
    """The cells of the table whose head begins so."""
    found: list[list[str]] = []
    for line in document.partition(f"| {first_column} |")[2].splitlines()[2:]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert found, first_column
    return found


async def accepted(port: int, proposed: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the pairs of abstract and transfer syntax that the server accepts."""
    taken: set[tuple[str, str]] = set()
    for start in range(0, len(proposed), CONTEXTS_AT_ONCE):
        some = proposed[start : start + CONTEXTS_AT_ONCE]
        async with raw_peer(port) as peer:
            answer = await peer.ask(
                AssociateRequest(
                    called_ae_title="ISOCENTER",
                    calling_ae_title="ASKS",
                    presentation_contexts=tuple(
                        ProposedContext(2 * number + 1, abstract, (transfer,))
                        for number, (abstract, transfer) in enumerate(some)
                    ),
                    user_information=UserInformation(
                        max_pdu_length=16_384,
                        implementation_class_uid="1.2.3",
                        role_selections=tuple(
                            RoleSelection(abstract, True, True)
                            for abstract in dict.fromkeys(abstract for abstract, _ in some)
                        ),
                    ),
                )
            )
            taken |= {
                some[context.context_id // 2]
                for context in answer.presentation_contexts  # type: ignore[union-attr]
                if context.result == 0
            }
    return taken


async def test_what_is_said_is_what_is_negotiated(document: str) -> None:
    lists: dict[str, set[str]] = {}
    for name, _, uid in table(document, "List"):
        lists.setdefault(name, set()).add(uid)
    said = {
        (uid, transfer)
        for _, uid, name, _, _ in table(document, "Abstract syntax")
        for transfer in lists[name]
    }
    classes = [u for u, entry in UID_dictionary.items() if entry[1] == "SOP Class"]
    syntaxes = [u for u, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
    # All that is said, and each class of the standard with a syntax or two beside.
    asked = said | {(uid, syntax) for uid in classes for syntax in (*syntaxes[:3], syntaxes[-1])}
    settings = load_settings(None, {}, SETTINGS)
    async with composition.open_archive_parts(settings) as parts:
        registry = composition.build_services(settings, parts.archive, parts.stores, None)
        async with serving(*registry.services) as server:
            taken = await accepted(port_of(server), sorted(asked))
    assert taken == said & asked == said
    assert len(said) > 1_000


def test_the_sections_come_in_the_order_of_the_standard(document: str) -> None:
    numbers = re.findall(r"^#+ ([0-9.]+) ", document, re.MULTILINE)
    assert numbers == sorted(numbers, key=lambda n: [int(part) for part in n.split(".")])
    assert [n for n in numbers if "." not in n] == ["1", "3", "4", "5", "6", "7"]


def test_every_key_of_the_index_is_named(document: str) -> None:
    assert {row[1] for row in table(document, "Level")} == {a.keyword for a in ATTRIBUTES}


def test_the_statuses_are_those_that_services_declare(document: str) -> None:
    settings = load_settings(None, {}, SETTINGS)

    async def services() -> list[Service]:
        async with composition.open_archive_parts(settings) as parts:
            return list(
                composition.build_services(settings, parts.archive, parts.stores, None).services
            )

    chapter = document.partition("### 4.2.3 Statuses")[2].partition("### 4.2.4")[0]
    printed = [
        [row.split(" | ")[0].strip("| ") for row in each.splitlines() if row[:3] in STATUS_ROWS]
        for each in chapter.split("| Status |")[1:]
    ]
    declared = [COMMON_STATUSES, *(service.statuses for service in trio.run(services))]
    assert printed == [[f"{status:04X}H" for status in sorted(each)] for each in declared]
    # Two that the standard has and nothing here sends.
    assert "B006H" not in document
    assert "0131H" not in chapter


def test_what_the_server_tells_others_is_named(tmp_path: Path) -> None:
    words = ("--data-dir", ":memory:", "--peer", "RIS@127.0.0.1:104")

    def statement(**sections: str) -> str:
        config = tmp_path / "c.toml"
        config.write_text(
            "".join(f"[{name}]\n{text}\n" for name, text in sections.items()), "utf-8"
        )
        done = isocenter_command("conformance", "--config", config, *words)
        assert done.returncode == 0, done.stdout
        return done.stdout

    notification = "1.2.840.10008.3.1.2.3.5"
    assert notification not in statement()
    document = statement(mpps='notify = ["RIS"]')
    (row,) = [row for row in table(document, "SOP class") if row[1] == notification]
    assert row[2:] == ["no", "yes"]
    assert any(notification in row[1] for row in table(document, "Purpose"))


def test_signatures_are_kept_whatever_rules_change(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        '[[rules]]\nname = "r"\ncoerce = [{ set = "PatientID", value = "X" }]\n', "utf-8"
    )
    done = isocenter_command("conformance", "--config", config, "--data-dir", ":memory:")
    (row,) = [
        row
        for row in table(done.stdout, "Abstract syntax")
        if row[1] == "1.2.840.10008.5.1.4.1.1.2"
    ]
    assert "signatures level 3 (kept)" in row[4]
    assert "may be coerced" in row[4]


def test_matching_without_negotiation_is_said(document: str) -> None:
    assert "whether or not that was negotiated" in document
    assert "Modality of a study is matched as Modalities in Study" in document


def test_settings_show(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        '[server]\nae_title = "RADIOLOGY"\nmax_associations = 7\n[mpps]\nenabled = false\n'
        "[query]\nmax_results = 500\n",
        "utf-8",
    )
    out = tmp_path / "statement.html"
    done = isocenter_command(
        *("conformance", "--config", config, "--data-dir", ":memory:"),
        *("--format", "html", "--output", out),
    )
    assert done.returncode == 0, done.stdout
    page = out.read_text("utf-8")
    # Well formed but for what HTML may leave open.
    body = page[page.index("<body>") :].replace("</html>", "")
    text = "".join(ET.fromstring(body).itertext())
    assert "RADIOLOGY" in text
    assert "Associations at once7" in text.replace("\n", "")
    assert "Matches of one C-FIND500" in text.replace("\n", "")
    assert "Performed Procedure Step SOP" not in text
    assert "bcp195" in text


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[server]\nae_titel = 1\n", "utf-8")
    done = isocenter_command("conformance", "--config", config)
    assert done.returncode == 2
    assert "server.ae_title" in done.stdout


def test_how_long_objects_are_kept(document: str, tmp_path: Path) -> None:
    assert [row[1] for row in table(document, "Keeping")] == [
        "7 days",
        "none",
        "no limit",
        "268,435,456",
    ]
    config = tmp_path / "isocenter.toml"
    config.write_text(
        "[storage]\ntrash_days = 0\nmax_bytes = 5000000\nreserve = 0\n"
        '[[retention]]\nname = "ultrasound"\nmodalities = ["US"]\nstudy_days = 3650\n'
    )
    done = isocenter_command("conformance", "--config", config, "--data-dir", ":memory:")
    assert done.returncode == 0, done.stdout
    assert [row[1] for row in table(done.stdout, "Keeping")] == [
        "no time",
        "ultrasound",
        "5,000,000",
        "none",
    ]


def test_web_services_stand_in_it_as_they_are_served(document: str) -> None:
    section = document.partition("### 4.5 Web services")[2].partition("\n## ")[0]
    rows = {(cells[0], cells[1]): cells for cells in table(section, "Method")}
    assert rows["GET", "/dicomweb/studies"][3:] == [
        "SearchForStudies",
        "metadata:read",
        "dicomweb.search",
    ]
    assert "| /dicomweb/studies/{study}/series/{series}/metadata |" in section
    assert "| POST | /dicomweb/studies |" in section
    syntaxes = {cells[1]: cells[2:] for cells in table(section, "Transfer syntax")}
    assert syntaxes["1.2.840.10008.1.2.1"] == ["yes", "available"]
    assert syntaxes["1.2.840.10008.1.2"][1] == "never"
    assert [cells[0] for cells in table(document, "Interface")][-1] == "Web services over HTTP"
    for reason in ("| A900H |", "| A901H |", "| C122H |", "application/hl7-cda+xml"):
        assert reason in document


def test_what_is_switched_off_is_not_in_it() -> None:
    done = isocenter_command("conformance", "--data-dir", ":memory:", "--no-tls", "--no-http")
    assert "/dicomweb" not in done.stdout
    assert done.stdout.partition("4.5 Web services")[2].split("\n")[2] == "None."


async def test_private_sop_classes_stand_in_it_where_they_are_accepted() -> None:
    class Named(Scripted):
        name = "notes"
        statuses: Mapping[int, str] = {0: "noted"}
        sop_classes: Mapping[str, str] = {"2.25.77": "Notes Storage"}

    async def nothing(operation: Operation) -> None:
        raise AssertionError("nobody asks for this")

    rows: dict[bool, dict[str, str]] = {}
    for private in (True, False):
        settings = load_settings(None, {}, {**SETTINGS, "storage.private_sop_classes": private})
        async with composition.open_archive_parts(settings) as parts:
            registry = composition.build_services(settings, parts.archive, parts.stores, None)
            registry = ServiceRegistry([*registry.services, Named(["2.25.77"], nothing)])
            text = markdown("x", [*statement(settings, registry, "")])
        rows[private] = {cells[1]: cells[0] for cells in table(text, "SOP class")}
        rows[private] |= {cells[1]: cells[0] for cells in table(text, "Abstract syntax")}
    for private, found in rows.items():
        assert found["2.25.77"] == "Notes Storage"
        assert ("not below 1.2.840.10008." in found) is private


def test_the_printer_stands_in_it_where_there_is_one(document: str, tmp_path: Path) -> None:
    assert "Print management" not in document
    config = tmp_path / "c.toml"
    config.write_text(
        '[print]\nenabled = true\nfilm_size = "A4"\noutputs = ["printer"]\nprinter = "LASER"\n'
        '[[peers]]\nae_title = "LASER"\nhost = "127.0.0.1"\nport = 104\n',
        "utf-8",
    )
    done = isocenter_command("conformance", "--config", config, "--data-dir", tmp_path / "data")
    assert done.returncode == 0, done.stdout
    assert "Basic Grayscale Print Management Meta SOP Class" in done.stdout
    assert "default A4" in done.stdout
    assert "SLIDE, SUPERSLIDE and CUSTOM" in done.stdout
    assert "image cropped to fit its image box" in done.stdout
