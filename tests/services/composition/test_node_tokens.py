"""Tokens of remote nodes: only a token leaves, and never a secret of the archive."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from isocenter.services.composition.node_tokens import token_of
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings
from isocenter.services.workflow.nodes.node import Node, new_node
from isocenter.services.workflow.nodes.ports import NodeError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    overrides = {
        "storage.data_dir": str(tmp_path / "data"),
        "monitoring.token_file": str(tmp_path / "figures"),
        "deidentification": [f'{{ name = "x", key_file = "{tmp_path / "trial.key"}" }}'],
    }
    (tmp_path / "isocenter.toml").write_text(f"""
        [[ai_services]]
        name = "lung"
        url = "https://ai.example"
        authentication = "bearer"
        key_file = "{tmp_path}/lung.key"
        [[events.consumers]]
        name = "ris"
        webhook = "https://ris.example"
        secret_file = "{tmp_path}/hook.key"
        [[sharing.repositories]]
        name = "region"
        mhd = "https://mhd.example"
        source_oid = "1.2.3"
        token_file = "{tmp_path}/mhd.token"
        [[plugins]]
        name = "one"
        secret = "plugin.key"
    """)
    return load_settings(tmp_path / "isocenter.toml", {}, overrides)


def node(path: Path | str) -> Node:
    return new_node("https://far.example/rs", token_file=str(path))


def test_a_token_is_what_stands_in_its_file(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "token").write_text("  abc.DEF-1_~+/==\n")
    assert token_of(node(tmp_path / "token"), settings) == "abc.DEF-1_~+/=="
    assert token_of(new_node("https://far.example/rs"), settings) == ""


@pytest.mark.parametrize(
    "name",
    [
        "data/deidentification/basic.key",
        "figures",
        "trial.key",
        "lung.key",
        "hook.key",
        "mhd.token",
        "plugin.key",
    ],
)
@pytest.mark.parametrize("is_linked", [False, True])
def test_no_secret_of_the_archive_leaves_as_a_token(
    tmp_path: Path, settings: Settings, name: str, is_linked: bool
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0123456789abcdef")
    if is_linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with pytest.raises(NodeError, match="belongs to this archive"):
        token_of(node(path), settings)


@pytest.mark.parametrize("content", [b"", b"a b", b"a\nb", b"root:x:0:0", b"a" * 9_000, b"\xff"])
def test_nothing_but_a_token_leaves(tmp_path: Path, settings: Settings, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(NodeError, match="holds no token"):
        token_of(node(tmp_path / "other"), settings)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, settings: Settings) -> None:
    for path in tmp_path / "none", tmp_path:
        with pytest.raises(NodeError, match="cannot be used"):
            token_of(node(path), settings)
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        for path in tmp_path / "pipe", "/dev/zero":
            with pytest.raises(NodeError, match="holds no token"):
                token_of(node(path), settings)
