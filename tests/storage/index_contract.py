"""What every index must do; its test module subclasses `IndexContract`.

    class TestMyIndex(IndexContract):
        @pytest.fixture
        def open_index(self) -> IndexFactory:
            @asynccontextmanager
            async def open_index() -> AsyncIterator[Index]: ...  # an empty index
            return open_index

The oracle of the property tests, `expected_matches`, knows no tree and no tables: one
flat row of attributes per instance, judged by `isocenter.services.index.matching`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.services.index.attributes import ATTRIBUTES, BY_KEYWORD, BY_TAG, UNIQUE_KEY, Level
from isocenter.services.index.matching import matches, matches_combined
from isocenter.services.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Query,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.ports import (
    Added,
    Index,
    IndexStatistics,
    InstanceRecord,
    Outcome,
    StoredInstance,
)

IndexFactory = Callable[[], AbstractAsyncContextManager[Index]]

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"

Answer = dict[int, str]


def tag(keyword: str) -> int:
    return BY_KEYWORD[keyword].tag


def make_record(
    sop: str,
    series: str = "2.1",
    study: str = "1.1",
    *,
    sop_class: str = CT_STORAGE,
    size: int = 1000,
    requests: Sequence[Mapping[int, str]] = (),
    **attributes: str,
) -> InstanceRecord:
    """A record as ingest makes it; attributes by keyword."""
    texts = {tag(keyword): text for keyword, text in attributes.items() if text}
    texts |= {
        tag("StudyInstanceUID"): study,
        tag("SeriesInstanceUID"): series,
        tag("SOPInstanceUID"): sop,
        tag("SOPClassUID"): sop_class,
    }
    if requests:
        items = [{f"{key:08X}": text for key, text in item.items()} for item in requests]
        texts[tag("RequestAttributesSequence")] = orjson.dumps(items).decode()
    return InstanceRecord(
        sop_instance_uid=sop,
        sop_class_uid=sop_class,
        study_instance_uid=study,
        series_instance_uid=series,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        object_key=f"{study}/{series}/{sop}.dcm",
        size=size,
        data_set_offset=300,
        digest=hashlib.sha256(sop.encode()).hexdigest(),
        attributes=texts,
    )


def stored(record: InstanceRecord) -> StoredInstance:
    return StoredInstance(
        **{name: getattr(record, name) for name in StoredInstance.__dataclass_fields__}
    )


def query(level: Level, *combined: CombinedRange, want: Sequence[str] = (), **keys: Match) -> Query:
    return Query(
        level=level,
        criteria=tuple(Criterion(tag(keyword), match) for keyword, match in keys.items()),
        combined=combined,
        return_tags=tuple(tag(keyword) for keyword in want),
    )


async def find(index: Index, asked: Query) -> list[Answer]:
    """All matches, without attributes that have no value; checks what holds for every find."""
    answers: list[Answer] = []
    unique = {UNIQUE_KEY[level] for level in Level if level.depth <= asked.level.depth}
    allowed = unique | {t for t in asked.return_tags if BY_TAG[t].level.depth <= asked.level.depth}
    async with index.find(asked) as blocks:
        async for block in blocks:
            assert block
            for match in block:
                assert all(isinstance(text, str) for text in match.values())
                assert unique <= match.keys() <= allowed
                answers.append({key: text for key, text in match.items() if text})
    return answers


async def found(index: Index, asked: Query) -> list[str]:
    """The unique keys of all matches."""
    return [answer.get(UNIQUE_KEY[asked.level], "") for answer in await find(index, asked)]


async def instances(index: Index, asked: Query | None = None) -> list[StoredInstance]:
    listed: list[StoredInstance] = []
    async with index.instances(asked) as blocks:
        async for block in blocks:
            assert block
            listed += block
    return listed


def _flat_rows(records: Sequence[InstanceRecord]) -> list[tuple[dict[Level, Any], Answer]]:
    """For each instance the identity of its entity at each level, and all its attributes."""
    patient_of: dict[str, tuple[str, ...]] = {}
    identities = []
    for record in records:
        get = record.attributes.get
        patient: tuple[str, ...] = (get(0x00100020, ""), get(0x00100021, ""))
        if not patient[0]:
            patient += (get(0x00100010, ""), get(0x00100030, ""))
        patient = patient_of.setdefault(record.study_instance_uid, patient)
        identities.append(
            {
                Level.PATIENT: patient,
                Level.STUDY: record.study_instance_uid,
                Level.SERIES: (record.study_instance_uid, record.series_instance_uid),
                Level.IMAGE: record.sop_instance_uid,
            }
        )

    def below(level: Level, entity: Any, counted: Level) -> str:
        return str(len({i[counted] for i in identities if i[level] == entity}))

    rows = []
    for identity in identities:
        row: Answer = {}
        for attribute in ATTRIBUTES:
            level, entity = attribute.level, identity[attribute.level]
            texts = [
                record.attributes.get(attribute.tag, "")
                for record, other in zip(records, identities, strict=True)
                if other[level] == entity
            ]
            row[attribute.tag] = next((text for text in texts if text), "")
        patient, study, series = (identity[level] for level in list(Level)[:3])
        row[0x00100020], row[0x00100021] = patient[:2]
        row[0x00201200] = below(Level.PATIENT, patient, Level.STUDY)
        row[0x00201202] = below(Level.PATIENT, patient, Level.SERIES)
        row[0x00201204] = below(Level.PATIENT, patient, Level.IMAGE)
        row[0x00201206] = below(Level.STUDY, study, Level.SERIES)
        row[0x00201208] = below(Level.STUDY, study, Level.IMAGE)
        row[0x00201209] = below(Level.SERIES, series, Level.IMAGE)
        rows.append((identity, row))
    for identity, row in rows:
        of_study = [r for i, r in rows if i[Level.STUDY] == identity[Level.STUDY]]
        row[0x00080061] = "\\".join(sorted({r[0x00080060] for r in of_study} - {""}))
        row[0x00080062] = "\\".join(sorted({r[0x00080016] for r in of_study}))
    return rows


def _row_matches(asked: Query, row: Answer) -> bool:
    return all(matches(criterion, row[criterion.tag]) for criterion in asked.criteria) and all(
        matches_combined(combined, row[combined.date_tag], row[combined.time_tag])
        for combined in asked.combined
    )


def expected_matches(records: Sequence[InstanceRecord], asked: Query) -> list[Answer]:
    tags = [UNIQUE_KEY[level] for level in Level if level.depth <= asked.level.depth]
    tags += [t for t in asked.return_tags if BY_TAG[t].level.depth <= asked.level.depth]
    answers = {
        identity[asked.level]: {t: row[t] for t in tags if row[t]}
        for identity, row in _flat_rows(records)
        if _row_matches(asked, row)
    }
    return list(answers.values())


def expected_instances(records: Sequence[InstanceRecord], asked: Query) -> set[str]:
    rows = _flat_rows(records)
    entities = {identity[asked.level] for identity, row in rows if _row_matches(asked, row)}
    return {identity[Level.IMAGE] for identity, _ in rows if identity[asked.level] in entities}


def _sorted(answers: Sequence[Answer]) -> list[list[tuple[int, str]]]:
    return sorted(sorted(answer.items()) for answer in answers)


NAMES = [
    "",
    "DOE^JOHN",
    "Doe^John^^",
    "doe^jane",
    "MÜLLER^HANS",
    "müller^hans",
    "Straße^Ö",
    "YAMADA^TAROU=山田^太郎=やまだ^たろう",
    "=山田^太郎",
    "A[B]*C",
    "A%_?C",
]
TEXTS = ["", "CHEST", "chest", "CHEST [AP]", "HEAD*", "HE?D", "50%_X", "Ünïcödé", "A\\B", "'; --"]
POOL: dict[str, list[str]] = {
    "PatientID": ["", "P1", "P2", "p1", "P*", "P[1]"],
    "IssuerOfPatientID": ["", "A", "B"],
    "PatientName": NAMES,
    "PatientBirthDate": ["", "19700101", "1970.01.01", "unknown"],
    "PatientSex": ["", "M", "F"],
    "OtherPatientIDs": ["", "X1", "X1\\X2"],
    "StudyDate": ["", "20200101", "20200102", "2020.01.02", "20201231", "2020"],
    "StudyTime": ["", "10", "1000", "100000.5", "10:30:00", "235959.999999", "noon"],
    "AccessionNumber": TEXTS,
    "StudyDescription": TEXTS,
    "ReferringPhysicianName": NAMES,
    "PatientWeight": ["", "70", "70.0", "7e1", "heavy"],
    "Modality": ["", "CT", "MR"],
    "SeriesNumber": ["", "1", "01", "2", "-1", "x"],
    "SeriesDescription": TEXTS,
    "PerformingPhysicianName": [*NAMES, "DOE^JOHN\\ROE^JANE"],
    "InstanceNumber": ["", "1", "2", "10", "+2"],
    "ImageType": ["", "ORIGINAL\\PRIMARY", "DERIVED\\SECONDARY"],
    "Rows": ["", "512", "256"],
}
REQUESTS: list[list[dict[int, str]]] = [
    [],
    [{0x00401001: "R1", 0x00400009: "S1"}],
    [{0x00401001: "R2"}, {0x00401001: "R1", 0x00400009: "S2"}],
]
COMPUTED = [a.keyword for a in ATTRIBUTES if a.computed]
COUNTS = ["1", "2", "03", "9"]

_RECORD = st.fixed_dictionaries(
    {
        "series": st.sampled_from(["2.1", "2.2", "2.3"]),
        "study": st.sampled_from(["1.1", "1.2", "1.3"]),
        "sop_class": st.sampled_from([CT_STORAGE, MR_STORAGE]),
        "requests": st.sampled_from(REQUESTS),
    },
    optional={keyword: st.sampled_from(texts) for keyword, texts in POOL.items()},
)


@st.composite
def archives(draw: st.DrawFn) -> list[InstanceRecord]:
    fields = draw(st.lists(_RECORD, max_size=10))
    return [make_record(f"3.{number}", **values) for number, values in enumerate(fields)]


_PATTERN = st.text("DdOoEe^CHcheast*?[]%_\\ P1Aü山=", min_size=1, max_size=8).filter(
    lambda text: bool(text.strip("*^= \\"))
)


@st.composite
def criteria(draw: st.DrawFn) -> Criterion:
    keyword = draw(
        st.sampled_from(
            [
                *POOL,
                *COMPUTED,
                "StudyInstanceUID",
                "SeriesInstanceUID",
                "SOPInstanceUID",
                "SOPClassUID",
                "RequestAttributesSequence",
            ]
        )
    )
    attribute = BY_KEYWORD[keyword]
    if attribute.vr == "SQ":
        inner = [
            Criterion(
                0x00401001, draw(st.sampled_from([SingleValue("R1"), WildCard("R*"), EmptyValue()]))
            ),
            Criterion(
                0x00400009, draw(st.sampled_from([SingleValue("S1"), WildCard("?2"), EmptyValue()]))
            ),
        ]
        match: Match = SequenceMatch(tuple(inner[: draw(st.integers(1, 2))]))
        return Criterion(attribute.tag, draw(st.sampled_from([match, EmptyValue()])))
    uids = ["1.1", "1.2", "2.1", "2.3", "3.0", "3.1", CT_STORAGE, MR_STORAGE]
    if keyword == "ModalitiesInStudy":
        pool = ["CT", "MR", "US"]
    elif attribute.vr == "UI":
        pool = uids
    elif attribute.computed:
        pool = COUNTS
    else:
        pool = [value for text in POOL[keyword] for value in text.split("\\") if value]
    value = st.sampled_from(pool)
    kinds: list[st.SearchStrategy[Match]] = [
        st.builds(SingleValue, value),
        st.builds(ValueList, st.lists(value, min_size=1, max_size=3).map(tuple)),
        st.just(EmptyValue()),
    ]
    if attribute.vr in ("CS", "LO", "SH", "PN", "LT"):
        kinds.append(st.builds(WildCard, _PATTERN))
        kinds.append(st.builds(WildCard, value.map(lambda text: text[:2] + "*")))
        kinds.append(st.builds(WildCard, value.map(lambda text: "*" + text[1:-1] + "?")))
    if attribute.vr in ("DA", "TM"):
        ends = (
            ["19700101", "20200101", "2020.01.02", "2021"]
            if attribute.vr == "DA"
            else ["10", "1000", "10:29", "103000", "235959.999999"]
        )
        end = st.sampled_from([e for e in ends if e != "2021"])
        kinds.append(st.builds(Range, end, st.none() | end))
        kinds.append(st.builds(Range, st.none(), end))
    return Criterion(attribute.tag, draw(st.one_of(kinds)))


_POINTS = [None, "20200101100000.000000", "20200102103000.000000", "20201231235959.999999"]
_COMBINED = st.builds(
    CombinedRange,
    st.just(tag("StudyDate")),
    st.just(tag("StudyTime")),
    st.sampled_from(_POINTS),
    st.sampled_from(_POINTS),
)
_QUERY = st.builds(
    Query,
    level=st.sampled_from(Level),
    criteria=st.lists(criteria(), max_size=3, unique_by=lambda c: c.tag).map(tuple),
    combined=st.lists(_COMBINED, max_size=1).map(tuple),
    return_tags=st.lists(
        st.sampled_from([a.tag for a in ATTRIBUTES]), max_size=12, unique=True
    ).map(tuple),
)


_PROPERTY = settings(
    max_examples=120,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


class IndexContract:
    """Subclass it, and say with `open_index` how an empty index is opened and closed."""

    @pytest.fixture
    def open_index(self) -> IndexFactory:
        raise NotImplementedError

    async def test_an_empty_index_has_nothing(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            assert await index.statistics() == IndexStatistics(0, 0, 0, 0, 0)
            assert await index.get(["3.1"]) == {}
            assert await instances(index) == []
            for level in Level:
                assert await find(index, query(level)) == []
            await index.remove(["3.1"])
            assert list(await index.add([])) == []

    async def test_added_is_found_at_every_level(self, open_index: IndexFactory) -> None:
        record = make_record(
            "3.1", PatientID="P1", PatientName="DOE^JOHN", Modality="CT", Rows="512"
        )
        async with open_index() as index:
            assert list(await index.add([record])) == [Added(Outcome.ADDED)]
            assert await index.get(["3.1", "3.2"]) == {"3.1": stored(record)}
            assert await instances(index) == [stored(record)]
            for level, key in zip(Level, ["P1", "1.1", "2.1", "3.1"], strict=True):
                assert await found(index, query(level)) == [key]
            (answer,) = await find(
                index, query(Level.IMAGE, want=["Rows", "Modality", "PatientName", "StudyID"])
            )
            assert answer == {
                tag("PatientID"): "P1",
                tag("StudyInstanceUID"): "1.1",
                tag("SeriesInstanceUID"): "2.1",
                tag("SOPInstanceUID"): "3.1",
                tag("Rows"): "512",
                tag("Modality"): "CT",
                tag("PatientName"): "DOE^JOHN",
            }

    async def test_attributes_below_the_level_are_not_answered(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1", Modality="CT", Rows="512")])
            (answer,) = await find(
                index, query(Level.STUDY, want=["Modality", "Rows", "PatientID"])
            )
            assert answer == {tag("PatientID"): "P1", tag("StudyInstanceUID"): "1.1"}

    async def test_a_duplicate_changes_nothing(self, open_index: IndexFactory) -> None:
        first = make_record("3.1", PatientID="P1", Rows="1")
        again = make_record("3.1", "2.2", "1.2", PatientID="P2", Rows="2", size=5)
        other = make_record("3.2", PatientID="P1")
        async with open_index() as index:
            await index.add([first])
            assert list(await index.add([again, other])) == [
                Added(Outcome.DUPLICATE, stored(first)),
                Added(Outcome.ADDED),
            ]
            assert await index.get(["3.1"]) == {"3.1": stored(first)}
            assert await found(index, query(Level.PATIENT)) == ["P1"]
            assert await index.statistics() == IndexStatistics(1, 1, 1, 2, 2000)

    async def test_replacing_moves_the_instance(self, open_index: IndexFactory) -> None:
        first = make_record("3.1", PatientID="P1", Rows="1")
        second = make_record(
            "3.1", "2.2", "1.2", PatientID="P2", Rows="2", size=5, sop_class=MR_STORAGE
        )
        async with open_index() as index:
            await index.add([first])
            assert list(await index.add([second], replace=True)) == [
                Added(Outcome.REPLACED, stored(first))
            ]
            assert await index.get(["3.1"]) == {"3.1": stored(second)}
            assert await found(index, query(Level.PATIENT)) == ["P2"]
            assert await found(index, query(Level.STUDY)) == ["1.2"]
            assert await found(index, query(Level.SERIES)) == ["2.2"]
            (answer,) = await find(index, query(Level.IMAGE, want=["Rows", "SOPClassesInStudy"]))
            assert answer[tag("Rows")] == "2"
            assert answer[tag("SOPClassesInStudy")] == MR_STORAGE
            assert await index.statistics() == IndexStatistics(1, 1, 1, 1, 5)

    async def test_replacing_in_place_keeps_the_parents(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1", StudyDate="20200101", Rows="1")])
            await index.add(
                [make_record("3.1", PatientID="P1", StudyDate="20300101", Rows="2")], replace=True
            )
            (answer,) = await find(
                index,
                query(Level.IMAGE, want=["StudyDate", "Rows", "NumberOfStudyRelatedInstances"]),
            )
            assert answer[tag("StudyDate")] == "20200101"
            assert answer[tag("Rows")] == "2"
            assert answer[tag("NumberOfStudyRelatedInstances")] == "1"

    async def test_removing_prunes_what_is_empty(self, open_index: IndexFactory) -> None:
        records = [
            make_record("3.1", "2.1", "1.1", PatientID="P1", Modality="CT"),
            make_record("3.2", "2.2", "1.1", PatientID="P1", Modality="MR", sop_class=MR_STORAGE),
            make_record("3.3", "2.3", "1.2", PatientID="P1", Modality="CT"),
            make_record("3.4", "2.4", "1.3", PatientID="P2"),
        ]
        async with open_index() as index:
            await index.add(records)
            await index.remove(["3.2", "3.9"])
            assert await found(index, query(Level.SERIES)) == ["2.1", "2.3", "2.4"]
            study = query(
                Level.STUDY,
                want=["ModalitiesInStudy", "SOPClassesInStudy", "NumberOfStudyRelatedSeries"],
                StudyInstanceUID=SingleValue("1.1"),
            )
            (answer,) = await find(index, study)
            assert answer[tag("ModalitiesInStudy")] == "CT"
            assert answer[tag("SOPClassesInStudy")] == CT_STORAGE
            assert answer[tag("NumberOfStudyRelatedSeries")] == "1"
            await index.remove(["3.1", "3.1"])
            assert await found(index, query(Level.STUDY)) == ["1.2", "1.3"]
            await index.remove(["3.3", "3.4"])
            assert await found(index, query(Level.PATIENT)) == []
            assert await index.statistics() == IndexStatistics(0, 0, 0, 0, 0)
            await index.add(records[:1])
            assert await found(index, query(Level.PATIENT)) == ["P1"]

    async def test_patients_are_told_apart_by_id_and_issuer(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record("3.1", "2.1", "1.1", PatientID="P1"),
                    make_record("3.2", "2.2", "1.2", PatientID="P1", IssuerOfPatientID="A"),
                    make_record("3.3", "2.3", "1.3", PatientID="P1", PatientName="OTHER"),
                    make_record(
                        "3.4", "2.4", "1.4", PatientName="DOE", PatientBirthDate="19700101"
                    ),
                    make_record(
                        "3.5", "2.5", "1.5", PatientName="DOE", PatientBirthDate="19800101"
                    ),
                    make_record(
                        "3.6", "2.6", "1.6", PatientName="DOE", PatientBirthDate="19700101"
                    ),
                ]
            )
            assert await found(index, query(Level.PATIENT)) == ["", "", "P1", "P1"]
            doe = query(Level.PATIENT, PatientBirthDate=SingleValue("19700101"))
            doe = replace(doe, return_tags=(tag("NumberOfPatientRelatedStudies"),))
            assert await find(index, doe) == [{tag("NumberOfPatientRelatedStudies"): "2"}]

    async def test_a_study_stays_with_the_patient_it_first_came_with(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1")])
            await index.add([make_record("3.2", PatientID="P2", PatientName="DOE")])
            (answer,) = await find(
                index, query(Level.PATIENT, want=["NumberOfPatientRelatedInstances", "PatientName"])
            )
            assert answer == {
                tag("PatientID"): "P1",
                tag("NumberOfPatientRelatedInstances"): "2",
                tag("PatientName"): "DOE",
            }

    async def test_one_series_uid_in_two_studies_is_two_series(
        self, open_index: IndexFactory
    ) -> None:
        first = make_record("3.1", "2.1", "1.1", PatientID="P1")
        second = make_record("3.2", "2.1", "1.2", PatientID="P1")
        async with open_index() as index:
            await index.add([first])
            await index.add([second])
            assert await index.get(["3.2"]) == {"3.2": stored(second)}
            asked = query(Level.IMAGE, StudyInstanceUID=SingleValue("1.2"))
            assert await found(index, asked) == ["3.2"]
            assert await found(index, query(Level.SERIES)) == ["2.1", "2.1"]
            assert await index.statistics() == IndexStatistics(1, 2, 2, 2, 2000)
            await index.remove(["3.1"])
            assert await found(index, asked) == ["3.2"]

    async def test_the_first_value_wins_and_gaps_are_filled(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1", StudyDescription="FIRST")])
            await index.add(
                [
                    make_record(
                        "3.2", PatientID="P1", StudyDescription="SECOND", StudyDate="20200101"
                    )
                ]
            )
            want = ["StudyDescription", "StudyDate"]
            (answer,) = await find(index, query(Level.STUDY, want=want))
            assert answer[tag("StudyDescription")] == "FIRST"
            assert answer[tag("StudyDate")] == "20200101"
            # What an entity learned it keeps, though the instance it came from is gone.
            await index.remove(["3.2"])
            (again,) = await find(index, query(Level.STUDY, want=want))
            assert again == answer

    async def test_counts(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record(
                        f"3.{number}", f"2.{number // 2}", f"1.{number // 4}", PatientID="P1"
                    )
                    for number in range(8)
                ]
            )
            (patient,) = await find(
                index,
                query(
                    Level.PATIENT,
                    want=[
                        "NumberOfPatientRelatedStudies",
                        "NumberOfPatientRelatedSeries",
                        "NumberOfPatientRelatedInstances",
                    ],
                ),
            )
            assert sorted(patient.values()) == ["2", "4", "8", "P1"]
            asked = query(Level.SERIES, NumberOfSeriesRelatedInstances=SingleValue("2"))
            assert len(await found(index, asked)) == 4
            asked = query(Level.STUDY, NumberOfStudyRelatedInstances=SingleValue("3"))
            assert await found(index, asked) == []

    async def test_instances_come_in_order(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record("3.1", "2.1", "1.2", InstanceNumber="1"),
                    make_record("3.2", "2.2", "1.1", InstanceNumber="10"),
                    make_record("3.3", "2.2", "1.1", InstanceNumber="9"),
                    make_record("3.4", "2.2", "1.1", InstanceNumber="-1"),
                    make_record("3.5", "2.2", "1.1"),
                    make_record("3.6", "2.0", "1.1", InstanceNumber="99"),
                ]
            )
            everything = [i.sop_instance_uid for i in await instances(index)]
            assert everything == ["3.6", "3.4", "3.5", "3.3", "3.2", "3.1"]
            asked = query(Level.STUDY, StudyInstanceUID=ValueList(("1.1", "1.9")))
            assert [i.sop_instance_uid for i in await instances(index, asked)] == everything[:5]
            asked = query(Level.PATIENT, PatientID=EmptyValue())
            assert [i.sop_instance_uid for i in await instances(index, asked)] == everything

    async def test_relational_criteria_speak_of_one_path(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record("3.1", "2.1", "1.1", Modality="CT", SeriesNumber="1", Rows="256"),
                    make_record("3.2", "2.2", "1.1", Modality="MR", SeriesNumber="2", Rows="512"),
                    make_record("3.3", "2.3", "1.2", Modality="CT", SeriesNumber="2", Rows="512"),
                ]
            )
            both = {"Modality": SingleValue("CT"), "Rows": SingleValue("512")}
            assert await found(index, query(Level.STUDY, **both)) == ["1.2"]
            asked = query(Level.STUDY, Modality=SingleValue("CT"))
            assert await found(index, asked) == ["1.1", "1.2"]
            asked = query(Level.STUDY, ModalitiesInStudy=ValueList(("MR", "US")))
            assert await found(index, asked) == ["1.1"]

    async def test_special_characters_are_text(self, open_index: IndexFactory) -> None:
        texts = ["50%", "A_B", "A'B", 'A"B', "[A]", "A*", "A?", "ß", "x" * 300]
        async with open_index() as index:
            await index.add(
                [
                    make_record(
                        f"3.{number}",
                        AccessionNumber="",
                        SeriesDescription="",
                        PatientID="P",
                        study=f"1.{number}",
                        series=f"2.{number}",
                        StudyDescription=text,
                    )
                    for number, text in enumerate(texts)
                ]
            )
            for number, text in enumerate(texts):
                asked = query(Level.STUDY, StudyDescription=SingleValue(text))
                assert await found(index, asked) == [f"1.{number}"]
            asked = query(Level.STUDY, StudyDescription=WildCard("[A]*"))
            assert await found(index, asked) == ["1.4"]
            asked = query(Level.STUDY, StudyDescription=WildCard("?_?"))
            assert await found(index, asked) == ["1.1"]

    async def test_names(self, open_index: IndexFactory) -> None:
        name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1", PatientName=name)])
            for match, is_found in [
                (SingleValue("YAMADA^TAROU"), True),
                (SingleValue("山田^太郎"), True),
                (SingleValue("=山田^太郎"), True),
                (SingleValue("山田^太郎=YAMADA^TAROU"), False),
                (WildCard("yama*"), True),
                (WildCard("=*^太郎"), True),
                (WildCard("yamada*=*次郎"), False),
                (SingleValue("Yamada"), False),
            ]:
                asked = query(Level.PATIENT, PatientName=match)
                assert await found(index, asked) == (["P1"] if is_found else [])

    async def test_many_matches_come_in_blocks(self, open_index: IndexFactory) -> None:
        number = 2500
        async with open_index() as index:
            await index.add([make_record(f"3.{i}", PatientID="P1") for i in range(number)])
            assert len(await found(index, query(Level.IMAGE))) == number
            assert len(await instances(index)) == number
            async with index.find(query(Level.IMAGE)) as blocks:
                async for _ in blocks:
                    break  # leaving early is no error
            assert (await index.statistics()).instances == number
            await index.remove([f"3.{i}" for i in range(number)])
            assert (await index.statistics()).patients == 0

    async def test_a_hostile_pattern_takes_bounded_time(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1", StudyDescription="a" * 1000)])
            asked = query(Level.STUDY, StudyDescription=WildCard("a*" * 16 + "b"))
            assert await found(index, asked) == []

    @_PROPERTY
    @given(
        archive=archives(), asked=st.lists(_QUERY, min_size=1, max_size=6), cut=st.integers(0, 10)
    )
    async def test_answers_are_those_of_the_reference_matcher(
        self,
        open_index: IndexFactory,
        archive: list[InstanceRecord],
        asked: list[Query],
        cut: int,
    ) -> None:
        async with open_index() as index:
            await index.add(archive[:cut])
            await index.add(archive[cut:])
            for one in asked:
                assert _sorted(await find(index, one)) == _sorted(expected_matches(archive, one))
                listed = [i.sop_instance_uid for i in await instances(index, one)]
                assert len(listed) == len(set(listed))
                assert set(listed) == expected_instances(archive, one)

    @_PROPERTY
    @given(archive=archives(), data=st.data())
    async def test_removing_and_adding_keep_the_counts(
        self, open_index: IndexFactory, archive: list[InstanceRecord], data: st.DataObject
    ) -> None:
        uids = [record.sop_instance_uid for record in archive]
        gone = set(data.draw(st.lists(st.sampled_from(uids), unique=True))) if uids else set()
        moved = [
            replace(make_record(uid, "2.9", "1.1"), size=7)
            for uid in (data.draw(st.lists(st.sampled_from(uids), unique=True)) if uids else [])
        ]
        final = {record.sop_instance_uid: record for record in archive}
        for uid in gone:
            del final[uid]
        final |= {record.sop_instance_uid: record for record in moved}
        left = list(final.values())
        async with open_index() as index:
            await index.add(archive)
            await index.remove(sorted(gone))
            await index.add(moved, replace=True)
            statistics = await index.statistics()
            assert statistics.studies == len({r.study_instance_uid for r in left})
            assert statistics.series == len(
                {(r.study_instance_uid, r.series_instance_uid) for r in left}
            )
            assert statistics.instances == len(left)
            assert statistics.size == sum(r.size for r in left)
            assert statistics.patients == len(await found(index, query(Level.PATIENT)))
            assert await index.get(list(final)) == {uid: stored(r) for uid, r in final.items()}
            studies = await find(
                index,
                query(Level.STUDY, want=["SOPClassesInStudy", "NumberOfStudyRelatedInstances"]),
            )
            for study in studies:
                of_study = [r for r in left if r.study_instance_uid == study[0x0020000D]]
                assert study[0x00201208] == str(len(of_study))
                assert study[0x00080062] == "\\".join(sorted({r.sop_class_uid for r in of_study}))
