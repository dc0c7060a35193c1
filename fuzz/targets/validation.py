"""Invariant: whatever a data set holds, validation ends, says the same twice, and shows no value.

Input: a byte for the encoding, a byte for the kind of object, the data set.
"""

from __future__ import annotations

from typing import Final

from isocenter.engine.dataset import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from isocenter.services.dicom.iod.findings import MAX_FINDINGS, SEVERITIES
from isocenter.services.dicom.iod.named_checks import FAMILIES
from isocenter.services.dicom.iod.reports import result_model, sarif_results
from isocenter.services.dicom.iod.table import iod_table
from isocenter.services.dicom.iod.validation import DEFAULT_OPTIONS, Options, validate_data_set

_ENCODINGS: Final = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
#: What no message has, and what an input may have in its values.
_NEVER: Final = ("SEED^ONE", "\x1b", "\n", "\0")
_LONGEST_MESSAGE: Final = 2000
# What a process reads once is not the input's.
for _uid in iod_table().sop_classes:
    iod_table().iod_of(_uid)


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    encoding = _ENCODINGS[data[0] % 3]
    kind = data[1] % (2 * len(FAMILIES))
    options = Options(kind=FAMILIES[kind].prefix) if kind < len(FAMILIES) else DEFAULT_OPTIONS
    body = memoryview(data)[2:]
    result = validate_data_set(body, encoding, options)
    assert result.findings == validate_data_set(body, encoding, options).findings
    assert len(result.findings) <= MAX_FINDINGS
    assert len(result.not_judged) <= MAX_FINDINGS
    for finding in result.findings:
        assert finding.severity in SEVERITIES
        assert finding.count > 0
        text = f"{finding.code} {finding.path} {finding.message}"
        assert len(text) < _LONGEST_MESSAGE
        assert not any(part in text for part in _NEVER), text
    assert result.is_valid is (result.errors == 0)
    assert len(sarif_results(result.findings, "x")) == len(result.findings)
    assert result_model(result)["errors"] == result.errors
