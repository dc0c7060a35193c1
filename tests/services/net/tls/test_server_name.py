"""The name that the certificate of a server has to be for, where it is not that of its host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.engine.uid import VERIFICATION
from isocenter.services.association.access import AeTitleRules
from isocenter.services.association.peer import Peer
from isocenter.services.association.server import ListenAddress
from isocenter.services.cli import main
from isocenter.services.dicom.uid_registry import BASIC_SYNTAXES
from isocenter.services.errors import ConnectError
from isocenter.services.net.tls.contexts import TlsFiles, client_context, server_context
from isocenter.services.security.certificates.authority import CertificateAuthority
from isocenter.services.service_classes.client import open_association
from isocenter.services.settings.loading import load_settings
from support.serving import port_of, serving

NAME = "pacs.example.org"
CONTEXTS = [(VERIFICATION, BASIC_SYNTAXES)]


async def test_it_decides_and_not_the_host(tmp_path: Path) -> None:
    ca = CertificateAuthority.create(tmp_path / "ca")
    for title, host in (("HERE", NAME), ("ME", "localhost")):
        ca.issue(title, hosts=[host], folder=tmp_path)
    here, me = (
        TlsFiles(
            certificate=tmp_path / f"{title}.crt",
            key=tmp_path / f"{title}.key",
            ca=ca.certificate_path,
        )
        for title in ("HERE", "ME")
    )
    asked: list[str | None] = []
    context = server_context(here)
    context.sni_callback = lambda _, name, __: asked.append(name)
    where = [ListenAddress(host="127.0.0.1", port=0, tls=lambda: context)]
    ours = client_context(me)
    async with serving(addresses=where, access=AeTitleRules()) as server:
        peer = Peer("HERE", "127.0.0.1", port_of(server, tls=True), tls=True)
        with pytest.raises(ConnectError, match=r"127\.0\.0\.1"):
            async with open_association(peer, CONTEXTS, calling_ae_title="ME", tls=ours):
                raise AssertionError("its certificate is for another host")
        named = replace(peer, server_name=NAME)
        async with open_association(named, CONTEXTS, calling_ae_title="ME", tls=ours) as there:
            assert await there.echo() == 0
    assert asked == [None, NAME]


def test_a_peer_of_the_settings_has_one(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        "[[peers]]\nae_title = 'WS'\nhost = '10.0.0.7'\nport = 2762\ntls = true\n"
        f"server_name = '{NAME}'\n"
    )
    (peer,) = load_settings(config, {}).peers
    assert (peer.server_name, peer.tls_name) == (NAME, NAME)
    assert Peer("WS", "10.0.0.7", 2762).tls_name == "10.0.0.7"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--tls-server-name", NAME], "but no TLS; add --tls"),
        (["--tls", "--tls-server-name", NAME, "--tls-any-host"], "leave one out"),
        (["--tls", "--tls-server-name", NAME, "--tls-no-verify"], "leave one out"),
    ],
)
def test_options_that_contradict_it(
    words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["echoscu", *words, "127.0.0.1", "1"]) == 2
    assert fault in capsys.readouterr().err
