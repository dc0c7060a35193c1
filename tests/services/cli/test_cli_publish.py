"""`isocenter publish`: to a document recipient of our own, over TLS with a client certificate."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from isocenter.services.net.listeners import ListenAddress
from isocenter.services.net.tls.contexts import TlsFiles, server_context
from isocenter.services.security.certificates.authority import CertificateAuthority
from services.archive_support import STUDY
from services.cli_support import write_object
from support.document_recipient import DocumentRecipient
from support.processes import isocenter_command
from support.web_archive import Scripted, http_serving


class Recipient(DocumentRecipient):
    """With its address, and the settings of an archive that publishes there."""

    config: Path


@pytest.fixture
async def recipient(tmp_path: Path) -> AsyncIterator[Recipient]:
    """It believes the certificates of one CA only."""
    ca = CertificateAuthority.create(tmp_path / "ca")
    for name in ("RECIPIENT", "ARCHIVE"):
        ca.issue(name, hosts=["127.0.0.1"], folder=tmp_path)
    found = Recipient()
    server = TlsFiles(
        certificate=tmp_path / "RECIPIENT.crt",
        key=tmp_path / "RECIPIENT.key",
        ca=ca.certificate_path,
    )
    tls = server_context(server)
    bind = ListenAddress(host="127.0.0.1", port=0, tls=lambda: tls)
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    token.chmod(0o600)
    async with http_serving(Scripted(found), bind) as url:
        found.config = tmp_path / "isocenter.toml"
        found.config.write_text(
            f"""
            [storage]
            data_dir = "{tmp_path / "data"}"
            [sharing]
            patient_authority = "1.2.3.1"
            [[sharing.repositories]]
            name = "regional"
            mhd = "{url}/fhir"
            source_oid = "1.2.3.9"
            ca = "{ca.certificate_path}"
            certificate = "{tmp_path / "ARCHIVE.crt"}"
            key = "{tmp_path / "ARCHIVE.key"}"
            token_file = "{token}"
            """
        )
        yield found


async def call(recipient: Recipient, *words: str) -> tuple[int, str]:
    done = await trio.to_thread.run_sync(
        lambda: isocenter_command(*words, "--config", recipient.config)
    )
    return done.returncode, done.stdout


async def test_studies_are_published_listed_and_withdrawn(
    recipient: Recipient, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number in (1, 2):
        write_object(files, number)
    assert (await call(recipient, "import", str(files)))[0] == 0
    code, out = await call(recipient, "publish", STUDY, "--to", "regional", "--wait")
    assert code == 0, out
    assert "up to date" in out
    (reference,) = recipient.current
    assert recipient.headers[0]["authorization"] == "Bearer s3cret"
    code, out = await call(recipient, "publish", STUDY, "--list", "--json")
    (row,) = json.loads(out)
    assert (row["repository"], row["state"], row["instances"]) == ("regional", "published", "2")
    assert f"urn:oid:{row['document']}" == reference["masterIdentifier"]["value"]
    code, out = await call(recipient, "audit", "show")
    assert "Export" in out
    code, out = await call(recipient, "publish", STUDY, "--to", "regional", "--withdraw", "--wait")
    assert code == 0, out
    assert recipient.current == []
    for words, wanted, said in (
        (("9.9.9", "--to", "regional"), 1, "no such study"),
        ((STUDY, "--to", "nowhere"), 2, "there are regional"),
        ((STUDY, "--list", "--wait"), 2, "goes alone"),
        (("9.9.9", STUDY, "--list"), 1, "9.9.9: the archive has no such study"),
    ):
        code, out = await call(recipient, "publish", *words)
        assert (code, said in out) == (wanted, True), out
