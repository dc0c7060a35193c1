"""Pages that correct, move, split and merge, with a preview; and what was corrected."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote

import trio

from isocenter.services.archive.corrections.planning import CorrectionError, CorrectionPlan
from isocenter.services.archive.corrections.ports import CorrectionRefusedError
from isocenter.services.archive.corrections.service import Corrections
from isocenter.services.archive.corrections.values import CorrectionKind, PatientKey, Scope
from isocenter.services.archive.deletion.values import Requester
from isocenter.services.archive.index.attributes import BY_KEYWORD
from isocenter.services.errors import StorageError
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Route
from isocenter.services.web.forms import read_lists
from isocenter.services.web.ui.catalogue import Catalogue, Row
from isocenter.services.web.ui.layout import Layout
from isocenter.services.web.ui.page_routes import action, page

_MOST_REASON: Final = 200
#: Corrections on one page.
_ROWS: Final = 50
_LARGEST_NUMBER_LENGTH: Final = 18
#: How long the answer waits for what it has ordered; what takes longer the list shows.
_PATIENCE_SECONDS: Final = 2.0
_NO_REASON: Final = f"say why, in at most {_MOST_REASON} characters: it stands in the audit trail"

#: Attributes that the form of a study has.
_FIELDS: Final = (
    ("PatientName", "Patient’s name"),
    ("PatientID", "Patient ID"),
    ("IssuerOfPatientID", "Issuer of Patient ID"),
    ("PatientBirthDate", "Born"),
    ("PatientSex", "Sex"),
    ("StudyDate", "Study date"),
    ("StudyTime", "Study time"),
    ("AccessionNumber", "Accession"),
    ("StudyID", "Study ID"),
    ("StudyDescription", "Description"),
    ("ReferringPhysicianName", "Referring physician"),
)
_TITLES: Final = {
    CorrectionKind.CORRECT: ("Correct this study?", "Correct"),
    CorrectionKind.MOVE_STUDY: ("Give this study to another patient?", "Move"),
    CorrectionKind.MERGE_STUDIES: ("Merge this study into another one?", "Merge"),
    CorrectionKind.MOVE_SERIES: ("Move these series to another study?", "Move"),
    CorrectionKind.SPLIT_STUDY: ("Make a study of these series?", "Split"),
    CorrectionKind.MERGE_PATIENTS: ("Merge these patients?", "Merge"),
}
#: What a form sends.
_Form = Mapping[str, Sequence[str]]


class CorrectionPages:
    """Answers with what corrections would change, orders and undoes them.

    Args:
        name_of: the caller, for the audit trail.
    """

    def __init__(
        self,
        corrections: Corrections,
        catalogue: Catalogue,
        layout: Layout,
        *,
        name_of: Callable[[Request], str],
    ) -> None:
        self._corrections = corrections
        self._catalogue = catalogue
        self._layout = layout
        self._name_of = name_of

    def routes(self) -> Iterator[Route[Handler]]:
        """Where they are."""
        path = "/studies/{study}/correct"
        yield page(path, "correct", self.ask, "The forms that correct, move and split a study.")
        yield action(path, "correct", self.correct, "Preview it, then correct the study.")
        path = "/patients/merge"
        yield page(path, "correct", self.ask_merge, "The form that merges two patients.")
        yield action(path, "correct", self.merge, "Preview it, then merge the patients.")
        yield page("/corrections", "correct", self.list, "What was corrected.")
        yield action("/corrections/{number}/undo", "correct", self.undo, "Undo a correction.")

    async def ask(self, request: Request) -> Response:
        """The handler of the forms for a study."""
        return await self._ask(request, {}, "")

    async def correct(self, request: Request) -> Response:
        """The handler of these forms, and of that below the preview."""
        form = await read_lists(request, with_empty=True)
        study = await self._catalogue.study(request.arguments["study"], is_whole=True)
        try:
            plan = await self._plan(study, form)
        except (CorrectionError, ValueError) as error:
            return await self._ask(request, form, str(error))
        except StorageError as error:
            raise _unavailable() from error
        address = f"/studies/{quote(request.arguments['study'], safe='')}/correct"
        return await self._go_on(request, form, plan, address, back=address)

    async def ask_merge(self, request: Request) -> Response:
        """The handler of the form that merges."""
        names = ("patient", "issuer", "into", "into_issuer")
        given = {name: [request.parameter(name) or ""] for name in names}
        return self._ask_merge(request, given, "")

    async def merge(self, request: Request) -> Response:
        """The handler of that form, and of that below the preview."""
        form = await read_lists(request)
        source = PatientKey(_one(form, "patient"), _one(form, "issuer"))
        target = PatientKey(_one(form, "into"), _one(form, "into_issuer"))
        try:
            if not (source.patient_id and target.patient_id):
                raise CorrectionError("name both patients by their IDs")
            plan = await self._corrections.planner.merge_patients(source, target)
            if not plan.instances:
                raise CorrectionError("the archive has nothing of the patient that is to go")
        except CorrectionError as error:
            return self._ask_merge(request, form, str(error))
        except StorageError as error:
            raise _unavailable() from error
        return await self._go_on(request, form, plan, "/patients/merge", back="/corrections")

    async def list(self, request: Request) -> Response:
        """The handler of the list."""
        return await self._list(request, "")

    async def undo(self, request: Request) -> Response:
        """The handler of the button that takes a correction back."""
        reason = _one(await read_lists(request), "reason")
        if not _is_reason(reason):
            return await self._list(request, _NO_REASON)
        try:
            number = _number(request.arguments["number"])
            await self._corrections.undo(number, self._requester(request), reason)
            await self._work()
        except CorrectionRefusedError as error:
            raise HttpError(404, "NOT_FOUND", str(error)) from error
        except StorageError as error:
            raise _unavailable() from error
        return _to("/corrections")

    async def _go_on(
        self, request: Request, form: _Form, plan: CorrectionPlan, address: str, *, back: str
    ) -> Response:
        """Show what is planned; do it, when that was seen."""
        is_seen = _one(form, "step") == "apply" and plan.changed
        reason = _one(form, "reason")
        fault = "" if not is_seen or _is_reason(reason) else _NO_REASON
        if is_seen and not fault:
            try:
                await self._corrections.order(plan, self._requester(request), reason)
                await self._work()
            except CorrectionRefusedError as error:
                fault = str(error)
            except StorageError as error:
                raise _unavailable() from error
            else:
                return _to("/corrections")
        title, button = _TITLES[plan.kind]
        hidden = [
            (name, value)
            for name, values in form.items()
            if name not in ("step", "reason", "new_study")
            for value in values
        ]
        if plan.new_study_instance_uid:
            hidden.append(("new_study", plan.new_study_instance_uid))
        return self._layout.page(
            request,
            "correction_preview.html",
            status=400 if fault else 200,
            section="corrections",
            plan=plan,
            title=title,
            button=button,
            hidden=hidden,
            reason=reason[:_MOST_REASON],
            fault=fault,
            address=address,
            back=back,
        )

    async def _plan(self, study: Row, form: _Form) -> CorrectionPlan:
        planner = self._corrections.planner
        uid = study["StudyInstanceUID"]
        target = _one(form, "target")
        series = [one for one in form.get("series", ()) if one]
        match _one(form, "kind"):
            case "correct":
                changes = {
                    BY_KEYWORD[keyword].tag: value
                    for keyword, _ in _FIELDS
                    if (value := _value(form, keyword, study)) != study[keyword]
                }
                if not changes:
                    raise CorrectionError("change a value first")
                return await planner.correct(Scope(study_instance_uid=uid), dict(changes))
            case "move study":
                patient = PatientKey(_one(form, "patient"), _one(form, "issuer"))
                if not patient.patient_id:
                    raise CorrectionError("name the patient by the ID")
                return await planner.move_study(uid, patient)
            case "merge studies":
                return await planner.merge_studies(uid, target)
            case "move series" if target:
                return await planner.move_series(uid, series, target)
            case "move series":
                return await planner.split_study(uid, series, _one(form, "new_study"))
            case _:
                raise HttpError(400, "BAD_FORM", "the form does not say what is to be corrected")

    async def _work(self) -> None:
        """Small corrections are done when the answer leaves; the server goes on with others."""
        with trio.move_on_after(_PATIENCE_SECONDS):
            await self._corrections.work()

    async def _ask(self, request: Request, form: _Form, fault: str) -> Response:
        uid = request.arguments["study"]
        study = await self._catalogue.study(uid, is_whole=True)
        fields = [
            (keyword, words, _one(form, keyword) if keyword in form else _shown(keyword, study))
            for keyword, words in _FIELDS
        ]
        given = {name: _one(form, name) for name in ("patient", "issuer", "target")}
        return self._layout.page(
            request,
            "correct.html",
            status=400 if fault else 200,
            section="studies",
            study=study,
            series=await self._catalogue.series(uid),
            fields=fields,
            given=given | {"series": form.get("series", ())},
            fault=fault,
            address=f"/studies/{quote(uid, safe='')}/correct",
        )

    def _ask_merge(self, request: Request, form: _Form, fault: str) -> Response:
        names = ("patient", "issuer", "into", "into_issuer")
        return self._layout.page(
            request,
            "merge.html",
            status=400 if fault else 200,
            section="corrections",
            given={name: _one(form, name) for name in names},
            fault=fault,
        )

    async def _list(self, request: Request, fault: str) -> Response:
        before = request.parameter("before") or ""
        try:
            rows = await self._corrections.book.rows(
                before=_number(before) if before else 0, limit=_ROWS + 1
            )
        except StorageError as error:
            raise _unavailable() from error
        return self._layout.page(
            request,
            "corrections.html",
            status=400 if fault else 200,
            section="corrections",
            rows=rows[:_ROWS],
            has_more=len(rows) > _ROWS,
            fault=fault,
        )

    def _requester(self, request: Request) -> Requester:
        return Requester(name=self._name_of(request))


def _one(form: _Form, name: str) -> str:
    values = form.get(name, ())
    return values[-1].strip() if values else ""


def _is_date(keyword: str) -> bool:
    return BY_KEYWORD[keyword].vr == "DA"


def _shown(keyword: str, study: Row) -> str:
    """A value as the form has it; dates with hyphens, where they are dates."""
    value = study[keyword]
    if _is_date(keyword) and len(value) == 8 and value.isdecimal():
        return f"{value[:4]}-{value[4:6]}-{value[6:]}"
    return value


def _value(form: _Form, keyword: str, study: Row) -> str:
    """What the form says; of what it does not speak stays."""
    if keyword not in form:
        return study[keyword]
    value = _one(form, keyword)
    return value.replace("-", "") if _is_date(keyword) else value


def _is_reason(text: str) -> bool:
    return bool(text) and text.isprintable() and len(text) <= _MOST_REASON


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _LARGEST_NUMBER_LENGTH):
        raise HttpError(404, "NOT_FOUND", "there is no such correction")
    return int(text)


def _to(path: str) -> Response:
    return Response(status=303, headers=[("location", path)])


def _unavailable() -> HttpError:
    return HttpError(503, "UNAVAILABLE", "the archive cannot do that now", [("retry-after", "60")])
