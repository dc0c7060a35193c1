"""Findings as JSON and as SARIF 2.1.0 (OASIS), for programs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final
from urllib.parse import quote

from isocenter.services.dicom.iod.findings import Finding, Result

SARIF_SCHEMA: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS: Final = {"error": "error", "warning": "warning", "info": "note"}


def finding_model(finding: Finding) -> dict[str, Any]:
    """One finding, for JSON."""
    tag = None if finding.tag is None else f"{finding.tag:08X}"
    model = {
        "severity": finding.severity, "code": finding.code, "tag": tag, "path": finding.path,
        "message": finding.message, "source": finding.source, "edition": finding.edition,
        "count": finding.count,
    }  # fmt: skip
    return {name: value for name, value in model.items() if value not in (None, "")}


def result_model(result: Result, name: str = "") -> dict[str, Any]:
    """What was found in one object, for JSON.

    Args:
        name: of the file.
    """
    model: dict[str, Any] = {"file": name} if name else {}
    model |= {
        "sop_class_uid": result.sop_class_uid,
        "sop_instance_uid": result.sop_instance_uid,
        "iod": result.iod,
        "is_valid": result.is_valid,
        "errors": result.errors,
        "warnings": result.warnings,
        "summary": result.summary,
        "findings": [finding_model(finding) for finding in result.findings],
        "not_judged": result.not_judged,
    }
    if result.left_out:
        model["left_out"] = result.left_out
    return model


def sarif_results(findings: Iterable[Finding], uri: str) -> list[dict[str, Any]]:
    """Findings of one object, as results of a SARIF run."""
    return [
        {
            "ruleId": finding.code,
            "level": _LEVELS[finding.severity],
            "message": {"text": f"{finding.path} {finding.message}".strip()},
            "occurrenceCount": finding.count,
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": uri}},
                    "logicalLocations": [{"fullyQualifiedName": finding.path or "data set"}],
                }
            ],
            "properties": {"source": finding.source, "edition": finding.edition},
        }
        for finding in findings
    ]


def sarif_tool(version: str, codes: Iterable[str]) -> dict[str, Any]:
    """The tool of a SARIF run."""
    return {
        "driver": {
            "name": "isocenter dcmvalidate",
            "version": version,
            "rules": [{"id": code} for code in sorted(set(codes))],
        }
    }


def uri_of(path: str) -> str:
    """The path of a file, as SARIF takes it."""
    return quote(PurePath(path).as_posix())
