"""Archive check: index against files, locks, left-overs of a crash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from isocenter.services.archive.counted_findings import CountedFindings
from isocenter.services.archive.index_figures import IndexInspection
from isocenter.services.archive.verification import VerifyReport
from isocenter.services.diagnostics.doctor.check import CheckResult, count
from isocenter.services.diagnostics.doctor.lock_holders import is_locked, lock_holders
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.errors import text_of
from isocenter.services.settings.settings import Settings

_SHOWN: Final = 3
_NEW_INDEX: Final = (
    "stop the server, move index.db and those named like it with -wal and -shm away, and run "
    "isocenter db reindex"
)


def check_lock(settings: Settings) -> CheckResult:
    """Which server has the data directory."""
    lock = Path(settings.storage.data_dir) / "lock"
    what = "server"
    try:
        taken = is_locked(lock)
    except OSError as fault:
        return CheckResult(what, f"{lock}: {text_of(fault)}")
    if not taken:
        return CheckResult(what, "no server has the data directory now", facts={"pids": []})
    holders = lock_holders(lock)
    seen = ", ".join(map(str, holders)) if holders else "one whose process cannot be told"
    return CheckResult(what, f"running: {seen}", facts={"pids": [holder.pid for holder in holders]})


def check_leftovers(settings: Settings) -> CheckResult:
    """What was begun and not ended, with no server that could end it."""
    folder = Path(settings.storage.data_dir)
    what = "leftovers"
    try:
        staged = sum(1 for _ in os.scandir(folder / "staging"))
        journals = sum(1 for _ in (folder / "journal").glob("*.journal"))
        probes = [*(folder / "objects").glob("+probe*"), *(folder / "staging").glob("+probe*")]
        others = [*folder.glob(".certs.*"), *probes]
    except OSError:
        return CheckResult(what, "no archive yet")
    findings: list[Finding] = []
    if (staged - len(probes) > 0 or journals) and not is_locked(folder / "lock"):
        findings.append(
            note(
                "the last server ended in the midst of its work: "
                f"{count(staged, 'staged file')}, {count(journals, 'journal')}",
                meaning="what was acknowledged is in the index, and its file is there, or in the "
                "journal",
                cure="nothing: the next isocenter serve makes files of the one, and undoes the "
                "other",
                side=Side.HERE,
            )
        )
    if others:
        findings.append(
            note(
                f"{others[0]}"
                + (f" and {len(others) - 1} more" if len(others) > 1 else "")
                + " was left by a program that was killed",
                cure="remove it while no server runs",
                side=Side.HERE,
            )
        )
    return CheckResult(what, f"{count(staged, 'staged file')}", tuple(findings))


def assess_inspection(look: IndexInspection, settings: Settings) -> list[CheckResult]:
    """A short look at the index, and at some of its files."""
    if look.fault:
        finding = error(look.fault, meaning="isocenter serve does not start", side=Side.HERE)
        return [CheckResult("index", str(settings.storage.data_dir), (finding,))]
    findings: list[Finding] = []
    if look.schema_version < look.latest_version:
        findings.append(
            note(
                f"an earlier version wrote it (schema {look.schema_version}, now "
                f"{look.latest_version})",
                meaning="the next isocenter serve migrates it, and earlier versions cannot read it "
                "then; a copy from before stays for storage.keep_index_days",
                cure="have a backup (isocenter backup), and room for a copy of index.db",
                side=Side.HERE,
            )
        )
    if look.damage:
        findings.append(
            error(
                f"index.db is damaged: {look.damage[0]}",
                meaning="queries may miss objects, and storing may fail",
                cure=_NEW_INDEX,
                side=Side.HERE,
            )
        )
    elif not look.was_checked:
        findings.append(
            note("index.db is too large to be checked quickly", cure="--thorough checks all of it")
        )
    index = CheckResult(
        "index",
        f"{count(look.instances, 'instance')}, schema {look.schema_version}",
        tuple(findings),
        look.damage,
        {"instances": look.instances, "schema": look.schema_version},
    )
    broken = [
        finding
        for uids, fault in (
            (look.missing, "has no file"),
            (look.wrong_size, "has a file of another size than was stored"),
            (look.changed, "has a file that is not what was stored"),
        )
        if uids
        for finding in [_object_finding(uids, fault)]
    ]
    seen = f"{count(look.sampled, 'object')} of {look.instances:,} compared with the index"
    return [index, CheckResult("objects", seen, tuple(broken), facts={"sampled": look.sampled})]


def assess_database(look: IndexInspection) -> CheckResult:
    """A short look at PostgreSQL."""
    findings: tuple[Finding, ...] = ()
    if look.fault:
        meaning = "isocenter serve does not start"
        findings = (error(look.fault, meaning=meaning, side=Side.HERE),)
    elif look.schema_version < look.latest_version:
        findings = (
            note(
                f"schema {look.schema_version}, now {look.latest_version}",
                meaning="the next isocenter serve migrates it, and earlier versions refuse it then",
                cure="have a backup (pg_dump, or isocenter backup of the version that serves it: "
                "this one's migrates it first)",
                side=Side.HERE,
            ),
        )
    return CheckResult(
        "database",
        f"{count(look.instances, 'instance')}, schema {look.schema_version}",
        findings,
        facts={"instances": look.instances, "schema": look.schema_version},
    )


def assess_verification(report: VerifyReport) -> CheckResult:
    """A comparison of everything."""
    findings: list[Finding] = []
    if report.index.count:
        finding = error(
            f"the index is damaged: {report.index.named[0][0]}", cure=_NEW_INDEX, side=Side.HERE
        )
        findings.append(finding)
    kinds: tuple[tuple[CountedFindings, str], ...] = (
        (report.missing, "has no file"),
        (report.wrong_size, "has a file of another size than was stored"),
        (report.wrong_digest, "has a file that is not what was stored"),
        (report.unreadable, "has a file that cannot be read"),
    )
    for found, fault in kinds:
        if found.count:
            findings.append(_object_finding([name for name, _ in found.named], fault, found.count))
    if report.differing.count:
        findings.append(
            error(
                f"the index says of {count(report.differing.count, 'instance')} what is not in it",
                meaning="it may not be found by what it says, and is found by what it does not",
                cure="isocenter db reindex makes the index again, while the server is stopped",
                side=Side.HERE,
            )
        )
    if report.orphans.count:
        findings.append(
            warning(
                f"{count(report.orphans.count, 'file')} of objects are not in the index",
                meaning="they take space, and nobody finds them",
                cure="isocenter db reindex takes them in, while the server is stopped",
                side=Side.HERE,
            )
        )
    seen = (
        f"{count(report.instances, 'instance')} and {count(report.objects, 'object')} compared, "
        "with checksums"
    )
    return CheckResult("objects", seen, tuple(findings), facts={"instances": report.instances})


def _object_finding(uids: tuple[str, ...] | list[str], fault: str, number: int = 0) -> Finding:
    number = number or len(uids)
    shown = ", ".join(uids[:_SHOWN]) + (" …" if number > _SHOWN else "")
    return error(
        f"{count(number, 'instance')}: {shown} {fault}",
        meaning="it cannot be retrieved as it was stored",
        cure="isocenter db verify names all of them; restore the files from a backup",
        side=Side.HERE,
    )
