from __future__ import annotations

from typing import Any

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.engine.dataset import IMPLICIT_LITTLE, DataSetError, write_data_set
from isocenter.engine.uid import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from isocenter.services.archive.index.attributes import Level
from isocenter.services.archive.index.matching import matches
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.dicom.attribute_path import KeySyntaxError, parse_key
from isocenter.services.dicom.pydicom_datasets import read_identifier
from isocenter.services.service_classes.query_retrieve.identifier import (
    InformationModel,
    ParsedQuery,
    parse_query,
)
from isocenter.services.service_classes.query_retrieve.identifier_builder import build_identifier
from isocenter.services.service_classes.query_retrieve.match_encoder import MatchEncoder
from isocenter.services.service_classes.query_retrieve.matching_keys import (
    MAX_KEYS,
    MAX_LISTED_VALUES,
    MAX_STARS,
    IdentifierError,
)

SYNTAXES = [
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]
DEFAULT = IMPLICIT_VR_LITTLE_ENDIAN


def parse(
    keys: dict[str, str],
    level: Level | None = Level.STUDY,
    root: InformationModel = InformationModel.STUDY,
    **flags: Any,
) -> ParsedQuery:
    identifier = build_identifier(list(keys.items()), level, DEFAULT)
    return parse_query(identifier, DEFAULT, root=root, **flags)


def refused(*arguments: Any, **flags: Any) -> IdentifierError:
    with pytest.raises(IdentifierError) as raised:
        parse(*arguments, **flags)
    return raised.value


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_query_in_every_encoding(syntax: str) -> None:
    identifier = build_identifier(
        [
            ("PatientName", "MÜLLER*"),
            ("0008,0020", "20200101-"),
            ("StudyInstanceUID", "1.2\\1.3"),
            ("(0040,0275)[0].0040,1001", "R1"),
            ("0040,0275[0].RequestedProcedureDescription", ""),
            ("StudyID", ""),
            ("PatientAddress", ""),
        ],
        Level.STUDY,
        syntax,
    )
    parsed = parse_query(identifier, syntax, root=InformationModel.STUDY, relational=True)
    assert parsed.level is parsed.query.level is Level.STUDY
    assert set(parsed.query.criteria) == {
        Criterion(0x00100010, WildCard("MÜLLER*")),
        Criterion(0x00080020, Range("20200101", None)),
        Criterion(0x0020000D, ValueList(("1.2", "1.3"))),
        Criterion(0x00400275, SequenceMatch((Criterion(0x00401001, SingleValue("R1")),))),
    }
    assert parsed.requested == (
        (0x00080020, "DA"),
        (0x00100010, "PN"),
        (0x0020000D, "UI"),
        (0x00200010, "SH"),
        (0x00400275, "SQ"),
    )
    assert parsed.requested_item == ((0x00321060, "LO"), (0x00401001, "SH"))
    assert parsed.unsupported == (0x00101040,)
    assert parsed.query.return_tags == (0x00080020, 0x00100010, 0x0020000D, 0x00200010, 0x00400275)
    assert parsed.character_set == ("ISO_IR 192",)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("PatientID", "P1 ", SingleValue("P1")),
        ("PatientID", "*", None),
        ("PatientID", "**", None),
        ("PatientID", '""', EmptyValue()),
        ("PatientID", "P?", WildCard("P?")),
        ("PatientName", "*^*", None),
        ("PatientName", "^", None),
        ("PatientName", "DOE", SingleValue("DOE")),
        ("PatientName", "=山*", WildCard("=山*")),
        ("StudyDate", "20200101", SingleValue("20200101")),
        ("StudyDate", "*", None),
        ("StudyDate", "20200101-20200131", Range("20200101", "20200131")),
        ("StudyDate", "-2020.01.31", Range(None, "2020.01.31")),
        ("StudyTime", "10:00-", Range("10:00", None)),
        ("StudyDate", "2020*", SingleValue("2020*")),
        ("StudyDescription", "A-B", SingleValue("A-B")),
        ("ModalitiesInStudy", "CT\\MR\\CT", ValueList(("CT", "MR"))),
        ("StudyInstanceUID", "1.2\\", SingleValue("1.2")),
        ("StudyInstanceUID", "*", None),
        ("NumberOfStudyRelatedSeries", "2", SingleValue("2")),
        ("(0040,0275)", "", None),
        ("(0040,0275)[0].0040,1001", "", None),
    ],
)
def test_kinds_of_matching(key: str, value: str, match: Match | None) -> None:
    parsed = parse({key: value}, relational=True)
    assert [criterion.match for criterion in parsed.query.criteria] == ([match] if match else [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("StudyInstanceUID", "1.2*"),
        ("StudyInstanceUID", "1.2\\1.?"),
        ("StudyDate", "-"),
        ("StudyDate", "20200101-x"),
        ("StudyDate", "20200101-20200102-20200103"),
        ("StudyDate", "20200101\\20200102-"),
        ("StudyTime", "a-b"),
        ("AccessionNumber", "A*\\B"),
        ("AccessionNumber", "*a" * (MAX_STARS + 1)),
        ("AccessionNumber", "x" * 2000),
        ("AccessionNumber", "x" * 300 + "*"),
        ("AccessionNumber", "\\".join(map(str, range(MAX_LISTED_VALUES + 1)))),
        ("0040,0275[1].0040,1001", "R1"),
    ],
)
def test_keys_that_cannot_be_matched(key: str, value: str) -> None:
    error = refused({key: value}, relational=True)
    assert error.status == 0xA900
    assert len(error.offending_elements) == 1
    assert "2020" not in str(error)


def test_the_level() -> None:
    for keys, level, root in [
        ({}, None, InformationModel.STUDY),
        ({"0008,0052": "IMAGES"}, None, InformationModel.PATIENT),
        ({"0008,0052": ""}, None, InformationModel.PATIENT),
        ({}, Level.PATIENT, InformationModel.STUDY),
        ({}, Level.SERIES, InformationModel.PATIENT_STUDY_ONLY),
    ]:
        error = refused(keys, level, root)
        assert (error.status, error.offending_elements) == (0xA900, (0x00080052,))
    assert parse({}, Level.PATIENT, InformationModel.PATIENT).query.criteria == ()


def test_hierarchical_search_needs_the_keys_above() -> None:
    assert refused({}, Level.STUDY, InformationModel.PATIENT).offending_elements == (0x00100020,)
    assert refused(
        {"PatientID": "P*"}, Level.STUDY, InformationModel.PATIENT
    ).offending_elements == (0x00100020,)
    uid_list = {"StudyInstanceUID": "1.2\\1.3"}
    assert refused(uid_list, Level.SERIES).offending_elements == (0x0020000D,)
    keys = {"StudyInstanceUID": "1.2"}
    assert refused(keys, Level.IMAGE).offending_elements == (0x0020000E,)
    assert parse(keys, Level.SERIES).query.criteria == (Criterion(0x0020000D, SingleValue("1.2")),)
    assert parse({}, Level.IMAGE, relational=True).query.criteria == ()


@pytest.mark.parametrize(
    ("level", "root", "key", "value"),
    [
        (Level.STUDY, InformationModel.STUDY, "SeriesDescription", "HEAD*"),
        (Level.STUDY, InformationModel.STUDY, "SeriesDescription", ""),
        (Level.STUDY, InformationModel.STUDY, "NumberOfSeriesRelatedInstances", "1"),
        (Level.STUDY, InformationModel.STUDY, "(0040,0275)[0].0040,1001", "R1"),
        (Level.STUDY, InformationModel.STUDY, "SeriesInstanceUID", ""),
        (Level.STUDY, InformationModel.STUDY, "SOPInstanceUID", "*"),
        (Level.STUDY, InformationModel.STUDY, "SeriesDate", "-"),
        (Level.PATIENT, InformationModel.PATIENT, "StudyDate", "20200101-"),
        (Level.PATIENT, InformationModel.PATIENT, "ModalitiesInStudy", "CT"),
        (Level.PATIENT, InformationModel.PATIENT, "Modality", "CT"),
        (Level.PATIENT, InformationModel.PATIENT_STUDY_ONLY, "StudyInstanceUID", ""),
        (Level.STUDY, InformationModel.PATIENT_STUDY_ONLY, "SeriesNumber", "1"),
    ],
)
def test_keys_below_the_level_are_said_to_be_unsupported(
    level: Level, root: InformationModel, key: str, value: str
) -> None:
    above = (
        {"PatientID": "P1"} if root is not InformationModel.STUDY and level is Level.STUDY else {}
    )
    parsed = parse(above | {key: value}, level, root)
    assert [criterion.tag for criterion in parsed.query.criteria] == ([0x00100020] if above else [])
    assert len(parsed.unsupported) == 1
    assert parsed.unsupported[0] not in answered(parsed, {})
    relational = {"relational": True}
    if value == "-":
        assert refused({key: value}, level, root, **relational).status == 0xA900
    else:
        assert parse({key: value}, level, root, **relational).unsupported == ()


@pytest.mark.parametrize(
    ("level", "root", "key", "value"),
    [
        (Level.STUDY, InformationModel.STUDY, "SeriesInstanceUID", "1.3"),
        (Level.STUDY, InformationModel.STUDY, "SeriesInstanceUID", "1.3\\1.4"),
        (Level.STUDY, InformationModel.STUDY, "SOPInstanceUID", "1.4"),
        (Level.STUDY, InformationModel.STUDY, "SOPInstanceUID", '""'),
        (Level.STUDY, InformationModel.STUDY, "SOPInstanceUID", "\\"),
        (Level.SERIES, InformationModel.STUDY, "SOPInstanceUID", "1.4"),
        (Level.PATIENT, InformationModel.PATIENT, "StudyInstanceUID", "1.2"),
        (Level.PATIENT, InformationModel.PATIENT_STUDY_ONLY, "SeriesInstanceUID", "1.3"),
    ],
)
def test_a_value_in_a_unique_key_below_the_level_is_refused(
    level: Level, root: InformationModel, key: str, value: str
) -> None:
    keys = {"StudyInstanceUID": "1.2"} if level is Level.SERIES else {}
    error = refused(keys | {key: value}, level, root)
    assert error.status == 0xA900
    assert len(error.offending_elements) == 1
    if value != "\\":
        assert parse({key: value}, level, root, relational=True).query.criteria


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("CT", SingleValue("CT")),
        ("CT\\MR", ValueList(("CT", "MR"))),
        ("C*", WildCard("C*")),
        ('""', EmptyValue()),
        ("", None),
        ("*", None),
    ],
)
def test_modality_of_a_study_is_modalities_in_study(value: str, match: Match | None) -> None:
    parsed = parse({"Modality": value})
    assert parsed.query.criteria == ((Criterion(0x00080061, match),) if match else ())
    assert parsed.unsupported == ()
    assert answered(parsed, {0x00080061: "CT"})[0x00080060] == "CT"
    # It has room for one value (PS3.6); which of several would be a guess.
    assert answered(parsed, {0x00080061: "CT\\SR"})[0x00080060] == ""
    assert answered(parsed, {})[0x00080060] == ""
    # Modalities in Study was not asked for.
    assert 0x00080061 not in answered(parsed, {0x00080061: "CT"})


def test_modality_and_modalities_in_study_both_have_to_match() -> None:
    parsed = parse({"Modality": "CT", "ModalitiesInStudy": "SR"})
    assert set(parsed.query.criteria) == {
        Criterion(0x00080061, SingleValue("CT")),
        Criterion(0x00080061, SingleValue("SR")),
    }
    relational = parse({"Modality": "CT", "ModalitiesInStudy": "SR"}, relational=True)
    assert set(relational.query.criteria) == {
        Criterion(0x00080060, SingleValue("CT")),
        Criterion(0x00080061, SingleValue("SR")),
    }
    assert answered(relational, {0x00080061: "CT"})[0x00080060] == "CT"


@pytest.mark.parametrize("tag", ["0008,0054", "0008,0056", "0008,0201"])
def test_what_no_entity_has_is_not_matched(tag: str) -> None:
    assert parse({tag: ""}).unsupported == ()
    parsed = parse({tag: "ONLINE"}, relational=True)
    assert [f"{each >> 16:04X},{each & 0xFFFF:04X}" for each in parsed.unsupported] == [tag]


def answered(parsed: ParsedQuery, match: dict[int, str]) -> dict[int, str]:
    """The answer, all values as text."""
    encoded = MatchEncoder(parsed, DEFAULT, retrieve_ae_title="ISOCENTER").encode(match)
    return {
        int(element.tag): str(element.value or "") for element in read_identifier(encoded, DEFAULT)
    }


#: Attributes of every VR that the index has and a list may be asked of.
_LISTED = [
    "PatientID", "PatientName", "PatientBirthDate", "StudyTime", "PatientSex", "PatientAge",
    "PatientWeight", "StudyInstanceUID", "AccessionNumber", "ModalitiesInStudy",
    "NumberOfStudyRelatedSeries", "SOPClassesInStudy", "(0040,0275)[0].0040,1001",
]  # fmt: skip


@pytest.mark.parametrize("value", ["\\", "\\\\", " \\ ", "\\ \\", "*\\", "*\\*", "\\*"])
@pytest.mark.parametrize("key", _LISTED)
def test_a_list_of_nothing_is_no_universal_key(key: str, value: str) -> None:
    error = refused({key: value}, relational=True)
    assert (error.status, len(error.offending_elements)) == (0xA900, 1)


def test_components_without_a_value_are_left_out_of_a_list() -> None:
    for value, match in [
        ("\\P1", SingleValue("P1")),
        ("P1\\\\P2\\", ValueList(("P1", "P2"))),
        ("P*\\", WildCard("P*")),
    ]:
        assert parse({"PatientID": value}).query.criteria == (Criterion(0x00100020, match),)
    assert refused({"PatientName": "^\\^"}).status == 0xA900


def test_a_backslash_is_no_delimiter_in_text_of_one_value() -> None:
    """PS3.5 6.2, LT; a single value that only a backslash is equal to."""
    (criterion,) = parse({"PatientComments": "\\"}).query.criteria
    assert criterion.match == SingleValue("\\")
    assert matches(criterion, "\\")
    assert not matches(criterion, "A\\B")


def test_padding_alone_is_a_value_of_no_length() -> None:
    for value in ("  ", "\0\0"):
        encoded = write_data_set(
            [(0x00080052, "CS", b"STUDY "), (0x00100020, "LO", value.encode())], IMPLICIT_LITTLE
        )
        assert parse_query(encoded, DEFAULT, root=InformationModel.STUDY).query.criteria == ()


@given(st.sampled_from(_LISTED), st.text('\\ *?^=-1A"', max_size=6))
def test_what_has_a_delimiter_is_never_universal(key: str, value: str) -> None:
    """It is matched, and by the reference matcher not by everything; or it is refused."""
    if "\\" not in value:
        return
    try:
        parsed = parse({key: value}, relational=True)
    except (IdentifierError, KeySyntaxError):
        return
    (criterion,) = parsed.query.criteria
    assert not matches(criterion, "")  # Universal matching finds what has no value, too.


def test_retrieve() -> None:
    parsed = parse({"StudyInstanceUID": "1.2\\1.3", "Modality": "CT"}, for_retrieve=True)
    assert parsed.query.criteria == (Criterion(0x0020000D, ValueList(("1.2", "1.3"))),)
    parsed = parse(
        {"PatientID": "P1", "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"},
        Level.SERIES,
        InformationModel.PATIENT,
        for_retrieve=True,
    )
    assert [c.tag for c in parsed.query.criteria] == [0x00100020, 0x0020000D, 0x0020000E]
    parsed = parse({"SOPInstanceUID": "1.4"}, Level.IMAGE, relational=True, for_retrieve=True)
    assert parsed.query.criteria == (Criterion(0x00080018, SingleValue("1.4")),)


@pytest.mark.parametrize(
    ("keys", "level", "root"),
    [
        ({}, Level.STUDY, InformationModel.STUDY),
        ({"StudyInstanceUID": ""}, Level.STUDY, InformationModel.STUDY),
        ({"StudyInstanceUID": "*"}, Level.STUDY, InformationModel.STUDY),
        ({"StudyInstanceUID": '""'}, Level.STUDY, InformationModel.STUDY),
        ({"SeriesInstanceUID": "1.3"}, Level.SERIES, InformationModel.STUDY),
        ({"PatientID": "P*"}, Level.PATIENT, InformationModel.PATIENT),
        ({"PatientID": "P1\\P2"}, Level.PATIENT, InformationModel.PATIENT),
    ],
)
def test_retrieve_never_takes_everything(
    keys: dict[str, str], level: Level, root: InformationModel
) -> None:
    assert refused(keys, level, root, for_retrieve=True).status == 0xA900


def test_combined_date_time() -> None:
    keys = {"StudyDate": "20200101-20200102", "StudyTime": "10-11", "PatientBirthDate": "19700101"}
    parsed = parse(keys, combined_date_time=True)
    assert parsed.query.combined == (
        CombinedRange(0x00080020, 0x00080030, "20200101100000.000000", "20200102115959.999999"),
    )
    assert parsed.query.criteria == (Criterion(0x00100030, SingleValue("19700101")),)
    assert parse(keys).query.combined == ()
    (combined,) = parse(
        {"StudyDate": "20200101-", "StudyTime": "-11"}, combined_date_time=True
    ).query.combined
    assert (combined.low, combined.high) == ("20200101000000.000000", None)


def test_an_identifier_that_is_none() -> None:
    with pytest.raises(IdentifierError) as raised:
        parse_query(b"\x08\x00\x52", DEFAULT, root=InformationModel.STUDY)
    assert raised.value.status == 0xC000
    many = [(0x00090000 + number, "UN", b"") for number in range(1, MAX_KEYS + 2)]
    with pytest.raises(IdentifierError) as raised:
        parse_query(write_data_set(many, IMPLICIT_LITTLE), DEFAULT, root=InformationModel.STUDY)
    assert raised.value.status == 0xA900


def write_keys(keys: dict[str, str]) -> bytes:
    try:
        return build_identifier(list(keys.items()), Level.STUDY, DEFAULT)
    except KeySyntaxError:
        return b""


_VALUES = st.text('*?"-\\=^ 0129.aé', max_size=12)


@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(
            [
                "PatientName",
                "StudyDate",
                "StudyTime",
                "StudyInstanceUID",
                "StudyID",
                "0040,0275[0].0040,1001",
                "0008,0005",
                "0008,0052",
                "PatientWeight",
            ]
        ),
        _VALUES,
    ).map(write_keys),
    st.sampled_from(SYNTAXES),
    st.sampled_from(InformationModel),
    st.booleans(),
    st.booleans(),
)
def test_a_peer_gets_a_status_and_nothing_else(
    identifier: bytes, syntax: str, root: InformationModel, relational: bool, for_retrieve: bool
) -> None:
    try:
        parsed = parse_query(
            identifier,
            syntax,
            root=root,
            relational=relational,
            combined_date_time=True,
            for_retrieve=for_retrieve,
        )
    except IdentifierError as error:
        status = error.status
    else:
        MatchEncoder(parsed, syntax, retrieve_ae_title="ISOCENTER").encode({})
        status = 0
    assert status in (0, 0xA900, 0xC000)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_an_answer(syntax: str) -> None:
    identifier = build_identifier(
        [
            ("PatientName", ""),
            ("StudyInstanceUID", "1.2"),
            ("SeriesInstanceUID", "1.3"),
            ("Rows", ""),
            ("NumberOfFrames", ""),
            ("PatientAddress", ""),
            ("0040,0275[0].0040,1001", ""),
            ("0040,0275[0].0040,A370", ""),
            ("ReferencedStudySequence", ""),
        ],
        Level.IMAGE,
        syntax,
    )
    parsed = parse_query(identifier, syntax, root=InformationModel.STUDY)
    assert parsed.unsupported == (0x00081110, 0x00101040, 0x00400275)
    match = {
        0x00100010: "Müller^Änne",
        0x00100020: "P1",
        0x0020000D: "1.2",
        0x0020000E: "1.3",
        0x00080018: "1.4",
        0x00280010: "512",
        0x00400275: '[{"00401001":"R1","00400009":"S1"}]',
    }
    answer = read_identifier(
        MatchEncoder(parsed, syntax, retrieve_ae_title="ISOCENTER").encode(match), syntax
    )
    assert answer.SpecificCharacterSet == "ISO_IR 192"
    assert answer.QueryRetrieveLevel == "IMAGE"
    assert answer.RetrieveAETitle == "ISOCENTER"
    assert answer.InstanceAvailability == "ONLINE"
    assert str(answer.PatientName) == "Müller^Änne"
    assert answer.PatientID == "P1"
    assert (answer.StudyInstanceUID, answer.SeriesInstanceUID) == ("1.2", "1.3")
    assert answer.SOPInstanceUID == "1.4"
    assert answer.Rows == 512
    assert answer["NumberOfFrames"].is_empty
    # Keys that are not supported are not in the response (PS3.4 C.2.2.1.3).
    assert "PatientAddress" not in answer
    assert "ReferencedStudySequence" not in answer
    (item,) = answer.RequestAttributesSequence
    assert item.RequestedProcedureID == "R1"
    assert "ScheduledProcedureStepID" not in item
    assert "ReferencedRequestSequence" not in item


def test_an_answer_takes_the_character_set_of_the_question() -> None:
    def answer(character_set: str, name: str) -> pydicom.Dataset:
        identifier = build_identifier(
            [("SpecificCharacterSet", character_set), ("PatientName", "")], Level.STUDY, DEFAULT
        )
        parsed = parse_query(identifier, DEFAULT, root=InformationModel.STUDY)
        encoded = MatchEncoder(parsed, DEFAULT, retrieve_ae_title="A").encode({0x00100010: name})
        return read_identifier(encoded, DEFAULT)

    assert "SpecificCharacterSet" not in answer("ISO_IR 100", "DOE")
    assert answer("ISO_IR 100", "MÜLLER").SpecificCharacterSet == "ISO_IR 100"
    assert str(answer("ISO_IR 100", "MÜLLER").PatientName) == "MÜLLER"
    assert answer("ISO_IR 100", "山田").SpecificCharacterSet == "ISO_IR 192"
    assert str(answer("ISO_IR 100", "山田").PatientName) == "山田"


def test_sequences_asked_for_without_items_come_whole() -> None:
    parsed = parse({"0040,0275": ""}, relational=True)
    text = '[{"00401001":"R1"},{"00400009":"S2"}]'
    answer = read_identifier(
        MatchEncoder(parsed, DEFAULT, retrieve_ae_title="A").encode({0x00400275: text}), DEFAULT
    )
    first, second = answer.RequestAttributesSequence
    assert first.RequestedProcedureID == "R1"
    assert second.ScheduledProcedureStepID == "S2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0008,0052=STUDY", ("0008,0052", "STUDY")),
        ("(0010,0010)=DOE*", ("(0010,0010)", "DOE*")),
        ("PatientName=A=B", ("PatientName", "A=B")),
        ("StudyInstanceUID", ("StudyInstanceUID", "")),
        ("(0040,0100)[0].Modality=CT", ("(0040,0100)[0].Modality", "CT")),
    ],
)
def test_keys_as_people_write_them(text: str, expected: tuple[str, str]) -> None:
    assert parse_key(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=X",
        "NoSuchKeyword=1",
        "0010=1",
        "0010,0010.0010,0020=1",
        "0040,0275[0]=1",
        "0040,0275[9999].0040,1001=1",
        "0040,0275.0040,1001x",
        "0010,0010[0]=1",
    ],
)
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(KeySyntaxError):
        parse_key(text)


@pytest.mark.parametrize(
    "keys", [[("Rows", "x")], [("Rows", "70000")], [("0040,0275", "x")], [("Modality", "é")]]
)
def test_values_that_their_vr_cannot_have(keys: list[tuple[str, str]]) -> None:
    with pytest.raises(KeySyntaxError):
        build_identifier(keys, None, DEFAULT)


def test_an_answer_of_a_peer_is_bounded() -> None:
    with pytest.raises(DataSetError):
        read_identifier(b"\x08\x00", DEFAULT)
    item: Any = []
    for _ in range(200):
        item = [(0x00400275, "SQ", [item])]
    with pytest.raises(DataSetError):
        read_identifier(write_data_set(item, IMPLICIT_LITTLE), DEFAULT)
    with pytest.raises(DataSetError):
        read_identifier(bytes(2 << 20), DEFAULT)


@pytest.mark.parametrize("level", [*Level])
def test_the_level_may_be_text(level: Level) -> None:
    keys = [("StudyInstanceUID", "")]
    as_text = build_identifier(keys, level.value, EXPLICIT_VR_LITTLE_ENDIAN)
    assert as_text == build_identifier(keys, level, EXPLICIT_VR_LITTLE_ENDIAN)


@pytest.mark.parametrize("text", ["", "STUDIES", "study", "../../evil"])
def test_a_level_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(KeySyntaxError, match="is no level; it is one of PATIENT, STUDY, SERIES"):
        build_identifier([], text, EXPLICIT_VR_LITTLE_ENDIAN)
