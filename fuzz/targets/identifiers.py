"""Invariant: any identifier is a query or is refused; a query can be run, matched and answered.

Input: a byte for the transfer syntax and the information model, a byte for what was
negotiated, the identifier.
"""

from __future__ import annotations

import warnings
from typing import Final

from wording import check_fault

from isocenter.engine.dataset import DataSetError, encoding_of, read_data_set
from isocenter.engine.dimse.status import Status
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.index.attributes import BY_TAG
from isocenter.services.archive.index.matching import matches, matches_combined
from isocenter.services.archive.index.query import (
    Criterion,
    EmptyValue,
    Query,
    SequenceMatch,
    SingleValue,
    WildCard,
)
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    ParsedQuery,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.match_encoder import MatchEncoder
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    QUERY_RETRIEVE_LEVEL,
    IdentifierError,
)
from isocenter.storage.database.index.query import (
    compile_instance_keys,
    compile_keys,
)
from isocenter.storage.database.sqlite.connection import connect
from isocenter.storage.database.sqlite.functions import MatchingConnection

_SYNTAXES: Final = (
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)
_ROOTS: Final = tuple(InformationModel)
#: Attributes of an archive: usual ones, and some that break the rules of their VR.
_TEXTS: Final = (
    "",
    "DOE^JANE=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046",
    "20240229",
    "115959.5",
    "1.2.840.1\\1.2.840.2",
    "-0\\12e3\\x",
    '[{"00401001":"RP1","00400007":"\u00e9"}]',
    "\x00*?[^=\\ ",
)


def _open() -> MatchingConnection:
    connection = connect(None, "full", writable=True, factory=MatchingConnection)
    assert isinstance(connection, MatchingConnection)
    return connection


#: Empty: that the question can be asked is what counts; answers are compared by
#: ``tests/storage/database/index/test_query.py``.
_INDEX: Final = _open()


def run(data: bytes) -> None:
    if len(data) < 2:
        return
    syntax, root = _SYNTAXES[data[0] & 3], _ROOTS[(data[0] >> 2 & 3) % len(_ROOTS)]
    flags, body = data[1], data[2:]
    if flags & 8:
        _read_as_requestor(body, syntax)
        return
    try:
        parsed = parse_query(
            body,
            syntax,
            root=root,
            relational=bool(flags & 1),
            combined_date_time=bool(flags & 2),
            for_retrieve=bool(flags & 4),
        )
    except IdentifierError as fault:
        check_fault(fault)
        _check_status(fault.status)
        return
    _match(parsed.query)
    for statement in (compile_keys(parsed.query), compile_instance_keys(parsed.query)):
        assert _INDEX.ask(statement).fetchall() == []
    if not flags & 4:
        _answer(parsed, syntax)


def _check_status(status: int) -> None:
    assert status in (Status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, Status.CANNOT_UNDERSTAND)


def _match(query: Query) -> None:
    """Every kind of matching comes to an answer; a value is matched by itself."""
    for criterion in query.criteria:
        # None is universal in disguise: that is the absence of a criterion.
        assert isinstance(criterion.match, EmptyValue) or not matches(criterion, "")
        for text in _TEXTS:
            matches(criterion, text)
        match criterion.match:
            case SingleValue(text) | WildCard(text):
                assert matches(criterion, text)
                _match_least(criterion, text)
            case SequenceMatch(criteria):
                assert all(isinstance(inner, Criterion) for inner in criteria)
    for combined in query.combined:
        for text in _TEXTS:
            matches_combined(combined, "20240229", text)
            matches_combined(combined, text, "1200")


def _match_least(criterion: Criterion, pattern: str) -> None:
    """A wild card matches what it is with nothing for each star, and one for each mark."""
    least = pattern.replace("*", "").replace("?", "x")
    # Of a name, components would be left empty; padding would be left where it means nothing.
    if BY_TAG[criterion.tag].vr != "PN" and least and least.strip(" \0") == least:
        assert matches(criterion, least) or not isinstance(criterion.match, WildCard)


def _answer(parsed: ParsedQuery, syntax: str) -> None:
    """An answer has every key that was asked for, whatever the attributes are."""
    for number in range(len(_TEXTS)):
        match = {
            tag: _TEXTS[(number + place) % len(_TEXTS)]
            for place, (tag, _) in enumerate(parsed.requested)
            if tag in BY_TAG
        }
        encoded = MatchEncoder(parsed, syntax, retrieve_ae_title="ISOCENTER").encode(match)
        answer = read_data_set(encoded, encoding_of(syntax))
        assert {tag for tag, _ in parsed.requested} <= answer.keys()
        assert QUERY_RETRIEVE_LEVEL in answer


def _read_as_requestor(body: bytes, syntax: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that break a rule
        try:
            read_identifier(body, syntax)
        except DataSetError as fault:
            check_fault(fault)
