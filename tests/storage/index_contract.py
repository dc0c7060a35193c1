"""What every index must do; its test module subclasses `IndexContract`.

    class TestMyIndex(IndexContract):
        @pytest.fixture
        def open_index(self) -> IndexFactory:
            @asynccontextmanager
            async def open_index() -> AsyncIterator[Index]: ...  # an empty index
            return open_index

The oracle of the property tests, `expected_matches`, knows no tree, no tables and no
statements: it tries all records that may speak for an entity, one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isocenter.services.archive.index.attributes import (
    ATTRIBUTES,
    BY_KEYWORD,
    BY_TAG,
    UNIQUE_KEY,
    Level,
)
from isocenter.services.archive.index.matching import matches, matches_combined
from isocenter.services.archive.index.places import Place, checked_place
from isocenter.services.archive.index.query import (
    CombinedRange,
    Criterion,
    EmptyValue,
    Match,
    Page,
    Query,
    Range,
    SequenceMatch,
    SingleValue,
    ValueList,
    WildCard,
)
from isocenter.services.archive.index_figures import IndexStatistics
from isocenter.services.archive.ports import (
    AddOutcome,
    AddResult,
    Index,
    InstanceRecord,
    OtherPatient,
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


async def found_page(index: Index, asked: Query, limit: int, offset: int = 0) -> list[str]:
    """The unique keys of a page."""
    page = await index.find_page(asked, Page(limit=limit, offset=offset))
    return [match[UNIQUE_KEY[asked.level]] for match in page.matches]


async def places(index: Index, asked: Query) -> list[Place]:
    """Where all matches stand, in order."""
    page = await index.find_page(asked, Page(limit=10_000))
    assert len(page.matches) == len(page.places) == len(set(page.places))
    for place in page.places:
        assert checked_place(asked.level, orjson.loads(orjson.dumps(place))) == place
    return list(page.places)


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


PATIENT_ID, ISSUER = 0x00100020, 0x00100021


def _patient_of(record: InstanceRecord) -> tuple[str, ...]:
    get = record.attributes.get
    patient: tuple[str, ...] = (get(PATIENT_ID, ""), get(ISSUER, ""))
    return patient if patient[0] else (*patient, get(0x00100010, ""), get(0x00100030, ""))


_Path = tuple[InstanceRecord, InstanceRecord, InstanceRecord, InstanceRecord]


def _paths(records: Sequence[InstanceRecord]) -> list[_Path]:
    """Who says what at each level, in all ways that count together.

    Of a patient anybody who names that patient may speak; of patient and study anybody of the
    study; of a series anybody of the series; of an instance itself.
    """
    return [
        (of_patient, of_study, of_series, instance)
        for instance in records
        for of_series in records
        if of_series.study_instance_uid == instance.study_instance_uid
        and of_series.series_instance_uid == instance.series_instance_uid
        for of_study in records
        if of_study.study_instance_uid == instance.study_instance_uid
        for of_patient in records
        if _patient_of(of_patient) == _patient_of(of_study)
    ]


def _said(record: InstanceRecord, level: Level) -> Answer:
    """What one record says of a level."""
    return {
        a.tag: record.attributes.get(a.tag, "")
        for a in ATTRIBUTES
        if a.level is level and not a.computed
    }


def _computed(records: Sequence[InstanceRecord], level: Level, of: InstanceRecord) -> Answer:
    studies = {r.study_instance_uid for r in records if _patient_of(r) == _patient_of(of)}
    of_patient = [r for r in records if r.study_instance_uid in studies]
    of_study = [r for r in records if r.study_instance_uid == of.study_instance_uid]
    of_series = [r for r in of_study if r.series_instance_uid == of.series_instance_uid]
    match level:
        case Level.PATIENT:
            return {
                0x00201200: str(len(studies)),
                0x00201202: str(
                    len({(r.study_instance_uid, r.series_instance_uid) for r in of_patient})
                ),
                0x00201204: str(len(of_patient)),
            }
        case Level.STUDY:
            modalities = {r.attributes.get(0x00080060, "") for r in of_study}
            return {
                0x00201206: str(len({r.series_instance_uid for r in of_study})),
                0x00201208: str(len(of_study)),
                0x00080061: "\\".join(sorted(modalities - {""})),
                0x00080062: "\\".join(sorted({r.sop_class_uid for r in of_study})),
            }
        case Level.SERIES:
            return {0x00201209: str(len(of_series))}
        case _:
            return {}


_Voices = dict[tuple[Level, str], Answer]


def _voices(records: Sequence[InstanceRecord]) -> _Voices:
    """What each record says of each level, by level and SOP Instance UID."""
    return {
        (level, r.sop_instance_uid): _said(r, level) | _computed(records, level, r)
        for level in Level
        for r in records
    }


def _row(voices: _Voices, asked: Query, path: _Path) -> tuple[Answer, Answer]:
    """What a path says: of the query's level and above, and of what is below."""
    here: Answer = {}
    below: Answer = {}
    # At the level of patients whoever speaks of the patient may be of another study.
    speakers = path if asked.level is Level.PATIENT else (path[1], *path[1:])
    for level, speaker in zip(Level, speakers, strict=True):
        texts = voices[level, speaker.sop_instance_uid]
        (here if level.depth <= asked.level.depth else below).update(texts)
    if asked.level is Level.PATIENT:
        below = voices[Level.PATIENT, path[1].sop_instance_uid] | below
    return here, below


def _path_matches(asked: Query, here: Answer, below: Answer) -> bool:
    def row(*tags: int) -> Answer:
        return here if all(t in here for t in tags) else here | below

    return all(matches(c, row(c.tag)[c.tag]) for c in asked.criteria) and all(
        matches_combined(
            c, row(c.date_tag, c.time_tag)[c.date_tag], row(c.date_tag, c.time_tag)[c.time_tag]
        )
        for c in asked.combined
    )


def _entity(path: _Path, level: Level) -> object:
    of_patient, _, _, instance = path
    return (
        _patient_of(of_patient),
        instance.study_instance_uid,
        (instance.study_instance_uid, instance.series_instance_uid),
        instance.sop_instance_uid,
    )[level.depth]


def expected_matches(records: Sequence[InstanceRecord], asked: Query) -> list[Answer]:
    tags = {UNIQUE_KEY[level] for level in Level if level.depth <= asked.level.depth}
    tags |= {t for t in asked.return_tags if BY_TAG[t].level.depth <= asked.level.depth}
    of_entity: dict[object, list[_Path]] = {}
    matching: dict[object, list[_Path]] = {}
    voices = _voices(records)
    for path in _paths(records):
        entity = _entity(path, asked.level)
        of_entity.setdefault(entity, []).append(path)
        if _path_matches(asked, *_row(voices, asked, path)):
            matching.setdefault(entity, []).append(path)
    return [
        _expected_answer(records, voices, asked, tags, of_entity[entity]) for entity in matching
    ]


def _expected_answer(
    records: Sequence[InstanceRecord],
    voices: _Voices,
    asked: Query,
    tags: set[int],
    paths: list[_Path],
) -> Answer:
    wanted = {c.tag for c in asked.criteria}
    for combined in asked.combined:
        wanted |= {combined.date_tag, combined.time_tag}
    answer: Answer = {}
    groups = [[Level.PATIENT]]
    if asked.level is not Level.PATIENT:
        groups = [[Level.PATIENT, Level.STUDY]]
        groups += [[level] for level in (Level.SERIES, Level.IMAGE)]
    for group in groups:
        if group[-1].depth > asked.level.depth:
            break
        position = group[-1].depth
        said: list[tuple[tuple[str, ...], Answer]] = []
        speakers = {path[position].sop_instance_uid: path[position] for path in paths}
        # Whoever came last counts first, and before them who is asked about.
        ordered = [r for r in reversed(records) if r.sop_instance_uid in speakers]
        if asked.shows_first:
            ordered.reverse()
        if asked.level is Level.IMAGE:
            ordered.sort(key=lambda r: r is not paths[0][3])
        for speaker in ordered:
            texts: Answer = {}
            for level in group:
                texts |= voices[level, speaker.sop_instance_uid]
            said.append((_patient_of(speaker), texts))
        here = Query(
            level=asked.level,
            criteria=tuple(c for c in asked.criteria if c.tag in said[0][1]),
            combined=tuple(
                c for c in asked.combined if {c.date_tag, c.time_tag} <= said[0][1].keys()
            ),
        )
        whose, chosen = next((one for one in said if _path_matches(here, one[1], {})), said[0])
        for each in tags & chosen.keys():
            others = [
                texts[each]
                for patient, texts in said
                if texts[each] and (patient == whose or group[-1] is Level.SERIES)
            ]
            answer[each] = chosen[each] or next(iter(others if each not in wanted else []), "")
    return {key: text for key, text in answer.items() if text}


def expected_instances(records: Sequence[InstanceRecord], asked: Query) -> set[str]:
    paths = _paths(records)
    voices = _voices(records)
    entities = {
        _entity(path, asked.level)
        for path in paths
        if _path_matches(asked, *_row(voices, asked, path))
    }
    return {path[3].sop_instance_uid for path in paths if _entity(path, asked.level) in entities}


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
    fields = draw(st.lists(_RECORD, max_size=6))
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
    shows_first=st.booleans(),
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

    @pytest.fixture
    def wants_more(self) -> Callable[[], bool]:
        """Whether a property is to be looked at in one more example."""
        return lambda: True

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
            assert list(await index.add([record])) == [AddResult(AddOutcome.ADDED)]
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
                AddResult(AddOutcome.DUPLICATE, stored(first)),
                AddResult(AddOutcome.ADDED),
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
                AddResult(AddOutcome.REPLACED, stored(first))
            ]
            assert await index.get(["3.1"]) == {"3.1": stored(second)}
            assert await found(index, query(Level.PATIENT)) == ["P2"]
            assert await found(index, query(Level.STUDY)) == ["1.2"]
            assert await found(index, query(Level.SERIES)) == ["2.2"]
            (answer,) = await find(index, query(Level.IMAGE, want=["Rows", "SOPClassesInStudy"]))
            assert answer[tag("Rows")] == "2"
            assert answer[tag("SOPClassesInStudy")] == MR_STORAGE
            assert await index.statistics() == IndexStatistics(1, 1, 1, 1, 5)

    async def test_replacing_replaces_what_was_said(self, open_index: IndexFactory) -> None:
        def said(sop: str, **more: str) -> InstanceRecord:
            return make_record(sop, **{"PatientID": "P1", "PatientName": "OLD", **more})

        want = ["PatientName", "StudyDate", "Modality", "NumberOfStudyRelatedInstances"]
        async with open_index() as index:
            await index.add([said("3.1", StudyDate="2020", Modality="CT"), said("3.2")])
            new = {"PatientName": "NEW", "StudyDate": "2030", "Modality": "MR"}
            await index.add([said("3.1", **new)], replace=True)
            for name in ("OLD", "NEW"):
                asked = query(Level.STUDY, PatientName=SingleValue(name))
                assert await found(index, asked) == ["1.1"]
            await index.add([said("3.2", **new)], replace=True)
            asked = query(Level.STUDY, PatientName=SingleValue("OLD"))
            assert await found(index, asked) == []
            (answer,) = await find(index, query(Level.SERIES, want=want))
            assert [answer[tag(name)] for name in want] == ["NEW", "2030", "MR", "2"]
            assert await index.statistics() == IndexStatistics(1, 1, 1, 2, 2000)

    async def test_a_whole_study_may_move_to_another_patient(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            await index.add([make_record(f"3.{n}", PatientID="WRONG") for n in range(3)])
            for n in range(3):
                await index.add([make_record(f"3.{n}", PatientID="RIGHT")], replace=True)
            assert await found(index, query(Level.PATIENT)) == ["RIGHT"]
            assert await index.statistics() == IndexStatistics(1, 1, 1, 3, 3000)
            assert list(await index.check()) == []

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

    async def test_a_study_belongs_to_each_patient_that_is_named(
        self, open_index: IndexFactory
    ) -> None:
        first = make_record("3.1", PatientID="P1", PatientName="ONE")
        second = make_record("3.2", "2.2", PatientID="P2", PatientName="TWO")
        third = make_record("3.3", "2.3", "1.2", PatientID="P2", PatientName="TWO")
        want = [
            "PatientName",
            "NumberOfPatientRelatedStudies",
            "NumberOfPatientRelatedSeries",
            "NumberOfPatientRelatedInstances",
        ]
        async with open_index() as index:
            await index.add([first])
            (added,) = await index.add([second])
            assert added.other_patient == OtherPatient("3.1", is_first=True)
            await index.add([third])
            for patient, name, counts in (("P1", "ONE", "122"), ("P2", "TWO", "233")):
                key = SingleValue(patient)
                (answer,) = await find(index, query(Level.PATIENT, want=want, PatientID=key))
                assert answer[tag("PatientName")] == name
                assert "".join(answer[tag(each)] for each in want[1:]) == counts
                for level in (Level.STUDY, Level.SERIES, Level.IMAGE):
                    studies = SingleValue("1.1")
                    answers = await find(
                        index,
                        query(level, want=want, PatientID=key, StudyInstanceUID=studies),
                    )
                    # Series and images are of the study, whoever is named.
                    assert len(answers) == (1 if level is Level.STUDY else 2)
                    assert {answer[PATIENT_ID] for answer in answers} == {patient}
                    assert {answer[tag("PatientName")] for answer in answers} == {name}
                listed = await instances(index, query(Level.PATIENT, PatientID=key))
                assert len(listed) == int(counts[2])
            assert len(await instances(index)) == 3
            # What is asked for in one question has to be said by one object.
            asked = query(Level.STUDY, PatientID=SingleValue("P1"), PatientName=SingleValue("TWO"))
            assert await found(index, asked) == []
            # Without a key an image says whose it is itself.
            answers = await find(index, query(Level.IMAGE))
            assert [answer[PATIENT_ID] for answer in answers].count("P1") == 1
            await index.remove(["3.2"])
            asked = query(Level.STUDY, PatientID=SingleValue("P2"))
            assert await found(index, asked) == ["1.2"]
            assert await index.statistics() == IndexStatistics(2, 2, 2, 2, 2000)

    async def test_another_patient_can_be_refused(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1")])
            same, other, of_other = await index.add(
                [
                    make_record("3.2", PatientID="P1", PatientName="DOE"),
                    make_record("3.3", PatientID="P2"),
                    make_record("3.4", study="1.2", PatientID="P2"),
                ],
                one_patient=True,
            )
            assert (same.outcome, of_other.outcome) == (AddOutcome.ADDED, AddOutcome.ADDED)
            assert other.outcome is AddOutcome.OTHER_PATIENT
            assert other.other_patient is not None
            assert other.other_patient.sop_instance_uid in ("3.1", "3.2")
            assert list(await index.get(["3.3"])) == []
            # It does not count that an object disagrees with the one it replaces.
            (moved,) = await index.add(
                [make_record("3.4", study="1.2", PatientID="P3")], replace=True, one_patient=True
            )
            assert moved.outcome is AddOutcome.REPLACED
            (refused,) = await index.add(
                [make_record("3.1", PatientID="P3")], replace=True, one_patient=True
            )
            assert refused.outcome is AddOutcome.OTHER_PATIENT
            assert refused.previous is not None
            assert list(await index.get(["3.1"])) == ["3.1"]

    async def test_everything_that_was_said_is_found_and_shown(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            for number, name in enumerate(["MAIDEN", "MARRIED"]):
                await index.add(
                    [
                        make_record(
                            f"3.{number}",
                            f"2.{number}",
                            f"1.{number}",
                            PatientID="P1",
                            PatientName=name,
                        )
                    ]
                )
            want = ["PatientName"]
            for number, name in enumerate(["MAIDEN", "MARRIED"]):
                asked = query(Level.STUDY, want=want, PatientName=SingleValue(name))
                (answer,) = await find(index, asked)
                assert answer[tag("StudyInstanceUID")] == f"1.{number}"
                assert answer[tag("PatientName")] == name
                asked = query(Level.PATIENT, want=want, PatientName=SingleValue(name))
                (answer,) = await find(index, asked)
                assert answer[tag("PatientName")] == name
            patients = query(Level.PATIENT, want=want)
            (answer,) = await find(index, patients)
            assert answer[tag("PatientName")] == "MARRIED"
            (answer,) = await find(index, replace(patients, shows_first=True))
            assert answer[tag("PatientName")] == "MAIDEN"
            # What was said last is not what came into being last.
            await index.add(
                [make_record("3.8", "2.0", "1.0", PatientID="P1", PatientName="MAIDEN")]
            )
            (answer,) = await find(index, patients)
            assert answer[tag("PatientName")] == "MAIDEN"

    async def test_an_older_object_that_comes_later_is_not_the_newest(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            for sop, name, at in (("3.1", "NEW", 2e9), ("3.2", "OLD", 1e9)):
                record = make_record(sop, PatientID="P1", PatientName=name)
                await index.add([replace(record, stored_at=at)])
            asked = query(Level.PATIENT, want=["PatientName"])
            for first, name in ((False, "NEW"), (True, "OLD")):
                (answer,) = await find(index, replace(asked, shows_first=first))
                assert answer[tag("PatientName")] == name

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

    async def test_gaps_are_filled_and_what_nobody_says_is_forgotten(
        self, open_index: IndexFactory
    ) -> None:
        want = ["StudyDescription", "StudyDate", "SeriesDescription"]
        async with open_index() as index:
            await index.add(
                [
                    make_record(
                        "3.1", PatientID="P1", StudyDescription="FIRST", SeriesDescription="A"
                    )
                ]
            )
            await index.add([make_record("3.2", PatientID="P1", StudyDate="20200101")])
            (answer,) = await find(index, query(Level.SERIES, want=want))
            assert [answer[tag(name)] for name in want] == ["FIRST", "20200101", "A"]
            # What was asked for is not filled: an answer has to match.
            asked = query(Level.STUDY, want=want, StudyDescription=EmptyValue())
            (answer,) = await find(index, asked)
            assert tag("StudyDescription") not in answer
            await index.remove(["3.1"])
            (answer,) = await find(index, query(Level.SERIES, want=want))
            assert [answer.get(tag(name), "") for name in want] == ["", "20200101", ""]
            assert list(await index.check()) == []

    async def test_records_are_what_was_added(self, open_index: IndexFactory) -> None:
        records = [
            make_record("3.1", PatientID="P1", PatientName="ÄÖ", Modality="CT", Rows="5"),
            make_record("3.2", PatientID="P1", StudyDate="2020", requests=REQUESTS[1]),
        ]
        async with open_index() as index:
            await index.add(records)
            known = await index.records(["3.1", "3.2", "3.9"])
            assert known == {record.sop_instance_uid: record for record in records}

    async def test_rebuilding_takes_the_place_of_all_or_nothing(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            await index.add([make_record("3.1", PatientID="P1"), make_record("3.2")])

            async def fail() -> None:
                async with index.rebuilding() as new:
                    await new.add([make_record("3.3", PatientID="P2")])
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await fail()
            assert sorted(await index.get(["3.1", "3.2", "3.3"])) == ["3.1", "3.2"]
            async with index.rebuilding() as new:
                assert await instances(new) == []
                await new.add([make_record("3.2", PatientID="P3", Modality="CT")])
                assert await found(index, query(Level.PATIENT)) == ["", "P1"]
            assert await found(index, query(Level.PATIENT)) == ["P3"]
            assert await index.statistics() == IndexStatistics(1, 1, 1, 1, 1000)
            assert list(await index.check()) == []
            await index.add([make_record("3.4", PatientID="P3")])
            await index.remove(["3.2", "3.4"])
            assert await index.statistics() == IndexStatistics(0, 0, 0, 0, 0)

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

    # --- pages ---------------------------------------------------------------------------

    async def test_studies_stand_in_pages_by_date_and_time(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record("1", study="1.1", StudyDate="20240101", StudyTime="10"),
                    make_record("2", study="1.2", StudyDate="20240102"),
                    make_record("3", study="1.3", StudyDate="2023.12.31", StudyTime="12"),
                    make_record("4", study="1.4"),
                    make_record("5", study="1.5", StudyDate="20240101", StudyTime="113000"),
                    make_record("6", study="1.6", StudyDate="20240101", StudyTime="10"),
                ]
            )
            everything = query(Level.STUDY)
            whole = ["1.2", "1.5", "1.6", "1.1", "1.3", "1.4"]
            assert await found_page(index, everything, 100) == whole
            for size in (1, 4, 6):
                pages = [await found_page(index, everything, size, at) for at in range(0, 8, size)]
                assert [uid for one in pages for uid in one] == whole
            assert await found_page(index, everything, 0) == []
            assert await found_page(index, everything, 5, 10**9) == []
            dates = query(Level.STUDY, StudyDate=Range("20231231", "20240101"))
            assert await found_page(index, dates, 3, 1) == ["1.6", "1.1", "1.3"]

    async def test_a_study_with_two_dates_stands_once(self, open_index: IndexFactory) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record("1", study="1.1", StudyDate="20240101"),
                    make_record("2", study="1.2", StudyDate="20240201"),
                    make_record("3", study="1.1", StudyDate="20240301"),
                ]
            )
            assert await found_page(index, query(Level.STUDY), 9) == ["1.1", "1.2"]
            # By the date that matches.
            early = query(Level.STUDY, StudyDate=Range(None, "20240215"))
            assert await found_page(index, early, 9) == ["1.2", "1.1"]
            assert await found_page(index, early, 9, 1) == ["1.1"]

    async def test_series_and_instances_stand_in_pages_by_number(
        self, open_index: IndexFactory
    ) -> None:
        async with open_index() as index:
            await index.add(
                [
                    make_record("1", "2.1", SeriesNumber="10", InstanceNumber="2"),
                    make_record("2", "2.2", SeriesNumber="9", InstanceNumber="10"),
                    make_record("3", "2.3", InstanceNumber="1"),
                    make_record("4", "2.2", SeriesNumber="9", InstanceNumber="9"),
                    make_record("5", "2.0", "1.0", SeriesNumber="11", InstanceNumber="9"),
                ]
            )
            assert await found_page(index, query(Level.SERIES), 9) == ["2.0", "2.3", "2.2", "2.1"]
            of_study = query(Level.SERIES, StudyInstanceUID=SingleValue("1.1"))
            assert await found_page(index, of_study, 1, 1) == ["2.2"]
            whole = ["5", "1", "4", "2", "3"]
            assert await found_page(index, query(Level.IMAGE), 9) == whole
            assert await found_page(index, query(Level.IMAGE), 2, 2) == whole[2:4]

    @_PROPERTY
    @given(archive=archives(), asked=_QUERY, size=st.integers(1, 3))
    async def test_pages_make_up_all_matches(
        self,
        open_index: IndexFactory,
        wants_more: Callable[[], bool],
        archive: list[InstanceRecord],
        asked: Query,
        size: int,
    ) -> None:
        if not wants_more():
            return
        async with open_index() as index:
            await index.add(archive)
            in_pages: list[str] = []
            while one := await found_page(index, asked, size, len(in_pages)):
                in_pages += one
            assert sorted(in_pages) == sorted(await found(index, asked))

    @_PROPERTY
    @given(archive=archives(), asked=_QUERY, size=st.integers(1, 3))
    async def test_pages_by_their_places_make_up_all_matches(
        self,
        open_index: IndexFactory,
        wants_more: Callable[[], bool],
        archive: list[InstanceRecord],
        asked: Query,
        size: int,
    ) -> None:
        if not wants_more():
            return
        async with open_index() as index:
            await index.add(archive)
            whole = await index.find_page(asked, Page(limit=10_000))
            forwards: list[Mapping[int, str]] = []
            page = await index.find_page(asked, Page(limit=size))
            while page.places:
                forwards += page.matches
                page = await index.find_page(asked, Page(limit=size, after=page.places[-1]))
            assert forwards == list(whole.matches)
            backwards: list[Mapping[int, str]] = []
            for end in whole.places[-1:]:
                page = await index.find_page(asked, Page(limit=size, before=end))
                while page.places:
                    backwards = [*page.matches, *backwards]
                    page = await index.find_page(asked, Page(limit=size, before=page.places[0]))
            assert backwards == list(whole.matches[:-1])

    @_PROPERTY
    @given(archive=archives(), asked=_QUERY, size=st.integers(1, 3), data=st.data())
    async def test_whatever_comes_and_goes_what_stays_is_seen_once(
        self,
        open_index: IndexFactory,
        wants_more: Callable[[], bool],
        archive: list[InstanceRecord],
        asked: Query,
        size: int,
        data: st.DataObject,
    ) -> None:
        if not wants_more():
            return
        there = [record.sop_instance_uid for record in archive]
        async with open_index() as index:
            await index.add(archive)
            before = await places(index, asked)
            stays = list(before)
            seen: list[Place] = []
            step = 0
            while page := (
                await index.find_page(asked, Page(limit=size, after=seen[-1] if seen else None))
            ).places:
                seen += page
                step += 1
                if step < 4:
                    come = data.draw(st.lists(_RECORD, max_size=2))
                    await index.add(
                        [make_record(f"4.{step}.{n}", **one) for n, one in enumerate(come)]
                    )
                    gone = data.draw(st.lists(st.sampled_from(there), max_size=1)) if there else []
                    await index.remove(gone)
                now = set(await places(index, asked))
                stays = [place for place in stays if place in now]
            assert len(seen) == len(set(seen))
            assert [place for place in seen if place in set(stays)] == stays

    @_PROPERTY
    @given(
        archive=archives(), asked=st.lists(_QUERY, min_size=1, max_size=6), cut=st.integers(0, 6)
    )
    async def test_answers_are_those_of_the_reference_matcher(
        self,
        open_index: IndexFactory,
        wants_more: Callable[[], bool],
        archive: list[InstanceRecord],
        asked: list[Query],
        cut: int,
    ) -> None:
        if not wants_more():
            return
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
        self,
        open_index: IndexFactory,
        wants_more: Callable[[], bool],
        archive: list[InstanceRecord],
        data: st.DataObject,
    ) -> None:
        if not wants_more():
            return
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
