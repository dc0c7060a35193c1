"""What doctor says of the access policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from isocenter.services.diagnostics.doctor.access_policy import check_policy
from isocenter.services.diagnostics.findings import Severity
from isocenter.services.security.access.policy import ApplicationEntity, Policy, User
from isocenter.services.security.access.policy_file import PolicyFile
from isocenter.services.settings.loading import load_settings
from isocenter.services.settings.settings import Settings

CT1 = Policy(entities=(ApplicationEntity(ae_title="CT1"),))
IDLE = Policy(
    entities=(ApplicationEntity(ae_title="WS1", user="alice"),),
    users=(User(name="alice", active=False),),
)


def settings_of(folder: Path, enforce: str, policy: Policy | None) -> Settings:
    values: dict[str, Any] = {"storage.data_dir": str(folder), "access.enforce": enforce}
    if policy is not None:
        PolicyFile(folder / "access").change(lambda _: policy)
    return load_settings(None, {}, values)


@pytest.mark.parametrize(
    ("enforce", "policy", "seen", "finding"),
    [
        ("auto", None, "auto: no policy is enforced", ""),
        ("auto", CT1, "1 application entity, 0 users; access.enforce is auto: the policy", ""),
        ("always", None, "always: the policy decides", "nobody may associate"),
        ("always", CT1, "always: the policy decides", ""),
        ("never", None, "never: no policy is enforced", ""),
        ("never", CT1, "never: no policy is enforced", "and is not enforced"),
        ("auto", IDLE, "1 user; ", "WS1 is turned away, since the user behind it"),
    ],
)
def test_what_decides_is_told(
    tmp_path: Path, enforce: str, policy: Policy | None, seen: str, finding: str
) -> None:
    found = check_policy(settings_of(tmp_path, enforce, policy))
    assert seen in found.seen
    assert [one.severity for one in found.findings] == [Severity.WARNING] * bool(finding)
    assert all(finding in one.text and one.cure for one in found.findings)


def test_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "auto", CT1)
    (tmp_path / "access" / "policy.json").write_text("{")
    (finding,) = check_policy(settings).findings
    assert finding.severity is Severity.ERROR
    assert "restore a backup" in finding.text


def test_an_archive_in_memory_has_none() -> None:
    settings = load_settings(None, {}, {"storage.data_dir": ":memory:"})
    assert "0 application entities" in check_policy(settings).seen
