"""Stores: the adapters of all ports that need a database, joined over one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field, replace
from pathlib import Path
from time import time
from typing import Final, Literal

import trio

from isocenter.engine.fast_init import dataclass
from isocenter.services.archive.corrections.ports import CorrectionBook, LinkedPatients
from isocenter.services.archive.deidentification.ports import DeidentificationMapping
from isocenter.services.archive.deletion.ports import Holds, TrashBook
from isocenter.services.archive.index.ports import NameBook
from isocenter.services.archive.locks.ports import LockBook
from isocenter.services.archive.metadata.ports import MetadataBook
from isocenter.services.archive.ports import Index
from isocenter.services.archive.query_times.ports import QueryTimer
from isocenter.services.archive.rejection.ports import RejectionBook
from isocenter.services.archive.rejection.reasons import RejectionRules
from isocenter.services.archive.retention.ports import ExpiryMarks, RetentionBook
from isocenter.services.archive.rules.ports import RuleHistory, RuleStore
from isocenter.services.archive.signature_marks.ports import SignatureBook
from isocenter.services.archive.sweeping.ports import StagedKeys
from isocenter.services.archive.tiers.ports import TierBook
from isocenter.services.archive.usage.ports import UsageBook
from isocenter.services.archive.validation.ports import ValidationBook
from isocenter.services.backup.relocation.ports import ArchiveTables
from isocenter.services.cluster.ports import Leases, Members, SharedDocuments
from isocenter.services.errors import StorageError
from isocenter.services.integration.ai.ports import AnalysisBook, AssessmentBook
from isocenter.services.integration.sharing.ports import PublicationBook
from isocenter.services.security.access.ports import ApiTokens, Sessions, ShareLinks
from isocenter.services.service_classes.commitment.ports import Commitments
from isocenter.services.service_classes.mpps.ports import Steps
from isocenter.services.service_classes.normalized.ports import ReportQueue
from isocenter.services.service_classes.print.ports import FILMS, FilmFiles, PrintJobs
from isocenter.services.service_classes.ups.follow_ups import FollowUp
from isocenter.services.service_classes.ups.ports import Workitems
from isocenter.services.service_classes.worklist.entry import EntryState
from isocenter.services.service_classes.worklist.ports import Worklist
from isocenter.services.viewing.ports import Marks, RecentStudies, ViewerStates
from isocenter.services.workflow.compression.ports import CompressionQueue
from isocenter.services.workflow.events.ports import EventLog, OpenStudies, Outbox
from isocenter.services.workflow.events.study_completion import CompletionRules
from isocenter.services.workflow.forwarding.ports import Clock, ForwardQueue
from isocenter.services.workflow.jobs.ports import JobQueue
from isocenter.services.workflow.nodes.ports import LimitBook, NodeBook
from isocenter.services.workflow.reconciliation.ports import ReconciliationBook
from isocenter.services.workflow.synchronization.ports import SyncBook
from isocenter.services.workflow.tasks.ports import TaskBook
from isocenter.storage.database.analyses import DatabaseAnalyses, forget_analyses
from isocenter.storage.database.api_tokens import DatabaseApiTokens
from isocenter.storage.database.arrivals import ArrivalGate
from isocenter.storage.database.assessments import DatabaseAssessments
from isocenter.storage.database.cluster import (
    DatabaseDocuments,
    DatabaseLeases,
    DatabaseMembers,
)
from isocenter.storage.database.commitments import DatabaseCommitments
from isocenter.storage.database.compression import DatabaseCompressions, ExchangeHook
from isocenter.storage.database.corrections.book import DatabaseCorrections
from isocenter.storage.database.corrections.links import DatabaseLinks
from isocenter.storage.database.corrections.standing import CorrectedArrivals
from isocenter.storage.database.database import Database
from isocenter.storage.database.deidentification import DatabaseDeidentificationMapping
from isocenter.storage.database.deletion import DeleteHook
from isocenter.storage.database.destination_limits import DatabaseLimits
from isocenter.storage.database.event_reports import DatabaseReports
from isocenter.storage.database.events.event_hooks import EventHooks
from isocenter.storage.database.events.event_log import DatabaseEventLog
from isocenter.storage.database.events.open_studies import DatabaseOpenStudies
from isocenter.storage.database.events.outbox import DatabaseOutbox
from isocenter.storage.database.expiry import DatabaseExpiry, expiry_added, expiry_deleted
from isocenter.storage.database.fencing import FencedDatabase
from isocenter.storage.database.forwarding.queue import DatabaseForwards
from isocenter.storage.database.index.index import BLOCK_ROWS, DatabaseIndex
from isocenter.storage.database.index.name_words import DatabaseNames
from isocenter.storage.database.index.records import AddHook
from isocenter.storage.database.jobs.queue import DatabaseJobs
from isocenter.storage.database.leases import release_stale
from isocenter.storage.database.metadata import DatabaseMetadata
from isocenter.storage.database.nodes import DatabaseNodes
from isocenter.storage.database.ordered_workitems import OrderedWorkitems
from isocenter.storage.database.performed_steps import ChangeHook as StepHook
from isocenter.storage.database.performed_steps import DatabaseSteps
from isocenter.storage.database.postgresql import NEEDS_PSYCOPG
from isocenter.storage.database.print_jobs import DatabasePrintJobs
from isocenter.storage.database.publications import DatabasePublications
from isocenter.storage.database.reconciliation import DatabaseReconciliation
from isocenter.storage.database.rejections import DatabaseRejections
from isocenter.storage.database.relocation.copy_record import SqliteCopyRecord
from isocenter.storage.database.relocation.tables import DatabaseTables
from isocenter.storage.database.retention import DatabaseHolds, DatabaseRetention
from isocenter.storage.database.rule_history import DatabaseRuleHistory
from isocenter.storage.database.rules import DatabaseRules
from isocenter.storage.database.sessions import DatabaseSessions
from isocenter.storage.database.share_links import DatabaseShareLinks
from isocenter.storage.database.signature_marks import (
    DatabaseSignatures,
    forget_signatures_of_gone,
)
from isocenter.storage.database.sqlite.backup import SqliteIndexFile
from isocenter.storage.database.sqlite.connection import Durability
from isocenter.storage.database.sqlite.database import open_sqlite_database
from isocenter.storage.database.sqlite.index_copies import (
    copy_before_migration,
    hint_for_older_program,
    remove_old_copies,
)
from isocenter.storage.database.sqlite.schema import NewerIndexError
from isocenter.storage.database.staged_keys import DatabaseStagedKeys
from isocenter.storage.database.study_locks import DatabaseStudyLocks
from isocenter.storage.database.synchronization import DatabaseSync
from isocenter.storage.database.tasks import DatabaseTasks
from isocenter.storage.database.tiers import DatabaseTiers
from isocenter.storage.database.timed import TimedDatabase, Timer
from isocenter.storage.database.trash import DatabaseTrash
from isocenter.storage.database.usage import DatabaseUsage
from isocenter.storage.database.validation import (
    DatabaseValidation,
    forget_validation_of_gone,
)
from isocenter.storage.database.viewing.marks import DatabaseMarks, forget_marks
from isocenter.storage.database.viewing.viewer_states import (
    DatabaseRecentStudies,
    DatabaseViewerStates,
    forget_studies_seen,
)
from isocenter.storage.database.workitems import DatabaseWorkitems
from isocenter.storage.database.worklist import DatabaseWorklist, FollowSteps
from isocenter.storage.objects.films import FolderFilms, MemoryFilms

__all__ = [
    "SqliteCopyRecord",
    "SqliteIndexFile",
    "Stores",
    "StoresOptions",
    "join_stores",
    "open_postgresql_stores",
    "open_sqlite_stores",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What is kept beside the objects, one adapter for each port."""

    index: Index
    names: NameBook
    trash: TrashBook
    holds: Holds
    locks: LockBook
    retention: RetentionBook
    expiry: ExpiryMarks
    worklist: Worklist
    steps: Steps
    workitems: Workitems
    print_jobs: PrintJobs
    films: FilmFiles
    commitments: Commitments
    reports: ReportQueue
    outbox: Outbox
    open_studies: OpenStudies
    event_log: EventLog
    rules: RuleStore
    rule_history: RuleHistory
    forwards: ForwardQueue
    compressions: CompressionQueue
    metadata: MetadataBook
    corrections: CorrectionBook
    links: LinkedPatients
    rejections: RejectionBook
    reconciliation: ReconciliationBook
    usage: UsageBook
    validation: ValidationBook
    signatures: SignatureBook
    analyses: AnalysisBook
    assessments: AssessmentBook
    tokens: ApiTokens
    sessions: Sessions
    share_links: ShareLinks
    deidentification: DeidentificationMapping
    marks: Marks
    viewer_states: ViewerStates
    recent_studies: RecentStudies
    nodes: NodeBook
    publications: PublicationBook
    limits: LimitBook
    jobs: JobQueue
    tasks: TaskBook
    sync: SyncBook
    staged_keys: StagedKeys
    tiers: TierBook
    tables: ArchiveTables
    members: Members
    leases: Leases
    documents: SharedDocuments
    timer: QueryTimer
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class StoresOptions:
    """What is written together with what, and by whom.

    Attributes:
        completion: what happens is an event, and by these rules a study is complete; None:
            there are no events.
        include_patient: events of studies say whose they are.
        follows_steps: entries of the worklist follow the performed procedure steps.
        discontinued: the state of an entry whose steps were all discontinued.
        orders_of: modalities whose orders become workitems.
        follow_ups: rules by which completed workitems make others.
        although_promised: objects that were committed elsewhere are deleted, also when this
            archive has promised others to keep them.
        rejection: what is done with rejection notes.
        fold_accents: person names of queries are compared without accents.
        block_rows: matches of a query that are read at once.
        notes_keys: objects are kept where only the notes of their keys tell what a crash left.
        is_owner: no other process of this server uses the database: what earlier ones had claimed
            is free.
        node: the name of this server among those that use the database; empty: there is but one.
        films: where films of print jobs are; None: beside the file of the database, or, without
            one, in memory.
        now: seconds since 1970; None: by the clock that all who use the database have in common.
    """

    completion: CompletionRules | None = None
    include_patient: bool = False
    follows_steps: bool = True
    orders_of: tuple[str, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    discontinued: EntryState = EntryState.DISCONTINUED
    although_promised: bool = False
    notes_keys: bool = False
    is_owner: bool = False
    node: str = ""
    rejection: RejectionRules = field(default_factory=RejectionRules)
    fold_accents: bool = False
    block_rows: int = BLOCK_ROWS
    films: FilmFiles | None = None
    now: Clock | None = None


DEFAULTS: Final = StoresOptions()


@asynccontextmanager
async def open_sqlite_stores(
    path: Path | Literal[":memory:"],
    options: StoresOptions = DEFAULTS,
    *,
    durability: Durability = "full",
    keep_copy_days: int = 0,
    on_copy: Callable[[Path], None] = lambda copy: None,
) -> AsyncIterator[Stores]:
    """The stores in one SQLite file, or in memory, for as long as the context lasts.

    Args:
        durability: as of `isocenter.storage.database.sqlite.database.open_sqlite_database`.
        keep_copy_days: for how long a copy is kept of what is migrated to a newer schema; 0:
            none is made.
        on_copy: told of such a copy, in a thread of its own.

    Raises:
        StorageError: the file is damaged, foreign, newer than this program or not accessible.
    """
    if path != ":memory:" and keep_copy_days:
        await trio.to_thread.run_sync(_copy, path, keep_copy_days, on_copy)
    try:
        async with open_sqlite_database(path, durability=durability) as database:
            if options.is_owner:
                await database.write(release_stale)
            if options.films is None and path != ":memory:":
                options = replace(options, films=FolderFilms(path.parent / FILMS))
            yield join_stores(database, options)
    except StorageError as error:
        if path == ":memory:" or not isinstance(error.__cause__, NewerIndexError):
            raise
        hint = await trio.to_thread.run_sync(hint_for_older_program, path)
        raise StorageError(f"{error}. {hint}" if hint else str(error)) from error


@asynccontextmanager
async def open_postgresql_stores(
    url: str,
    options: StoresOptions = DEFAULTS,
    *,
    durability: Durability = "full",
    server: str = "",
) -> AsyncIterator[Stores]:
    """The stores in a PostgreSQL database, for as long as the context lasts.

    Args:
        durability: ``full``: what is committed survives power failure; ``relaxed``: the last
            fraction of a second may be lost.
        server: the name of the server that this process belongs to, while which no other may use
            the database, unless both are nodes; empty: it belongs to none.

    Raises:
        StorageError: the database cannot be reached, is not one for us, or is newer than this
            program, or another server uses it.
    """
    is_shared = bool(options.node)
    try:
        from isocenter.storage.database.postgresql.database import open_postgresql_database
        from isocenter.storage.database.postgresql.opening import Place
    except ImportError as error:
        raise StorageError(NEEDS_PSYCOPG) from error
    place = Place(
        url,
        is_durable=durability == "full",
        server=server,
        is_shared=is_shared,
        node=options.node,
    )
    async with open_postgresql_database(place) as database:
        # What an earlier process of a node had claimed, the node frees: it knows whether it is it.
        if options.is_owner and not is_shared:
            await database.write(release_stale)
        if options.now is None:
            options = replace(options, now=database.clock)
        yield join_stores(database, options)


def _copy(path: Path, days: int, on_copy: Callable[[Path], None]) -> None:
    copy = copy_before_migration(path)
    if copy is not None:
        on_copy(copy)
    remove_old_copies(path, days)


def join_stores(database: Database, options: StoresOptions = DEFAULTS) -> Stores:
    """The adapters over *database*, each with what the others write in its transactions."""
    timer = Timer(connections=database.connections)
    database = TimedDatabase(FencedDatabase(database), timer)
    now = time if options.now is None else options.now
    events = None
    if options.completion is not None:
        events = EventHooks(options.completion, include_patient=options.include_patient, now=now)
    on_delete: list[DeleteHook] = [expiry_deleted]
    if events is not None:
        on_delete.append(events.deleted)
    on_entry = [] if events is None else [events.entry_changed]
    on_workitem = [] if events is None else [events.workitem_changed]
    if options.orders_of:
        ordered = OrderedWorkitems(options.orders_of, on_change=on_workitem, now=now)
        on_entry.append(ordered.entry_changed)
    on_step: list[StepHook] = [] if events is None else [events.step_changed]
    if options.follows_steps:
        following = FollowSteps(options.discontinued, on_change=on_entry, now=now)
        on_step.append(following.step_changed)
    forwards = DatabaseForwards(
        database, on_delete=on_delete, although_promised=options.although_promised, now=now
    )
    metadata = DatabaseMetadata(database, now=now)
    on_exchange: list[ExchangeHook] = [metadata.exchanged]
    if events is not None:
        on_exchange.append(events.compressed)
    compressions = DatabaseCompressions(
        database, completes=events is not None, on_exchange=on_exchange, now=now
    )
    on_add: list[AddHook] = [forwards.queue_added, compressions.queue_added, expiry_added]
    if events is not None:
        on_add.insert(0, events.stored)
    rejections = DatabaseRejections(database, options.rejection, now=now)
    on_add.append(rejections.noted)
    validation = DatabaseValidation(database, now=now)
    signatures = DatabaseSignatures(database, now=now)
    on_add += [validation.added, signatures.added]
    quiet_seconds = CompletionRules().quiet_seconds
    if options.completion is not None:
        quiet_seconds = options.completion.quiet_seconds
    analyses = DatabaseAnalyses(database, quiet_seconds=quiet_seconds, now=now)
    on_add.append(analyses.added)
    on_kept_out: list[AddHook] = [forwards.queue_added, compressions.queue_withheld]
    staged_keys = DatabaseStagedKeys(database, node=options.node, now=now)
    if options.notes_keys:
        on_add.insert(0, staged_keys.added)
        on_kept_out.insert(0, staged_keys.added)
        on_exchange.append(staged_keys.exchanged)
    films = options.films or MemoryFilms()
    gate = ArrivalGate(
        on_quarantine=on_delete,
        on_add=on_kept_out,
        not_wanted=rejections.not_wanted,
        now=now,
    )
    return Stores(
        index=DatabaseIndex(
            database,
            on_add=on_add,
            keep_out=gate.ask,
            arrivals=CorrectedArrivals(),
            on_remove=staged_keys.leaves if options.notes_keys else None,
            fold_accents=options.fold_accents,
            block_rows=options.block_rows,
        ),
        names=DatabaseNames(database),
        trash=DatabaseTrash(
            database,
            on_delete=on_delete,
            on_arrival=[] if events is None else [events.stored],
            on_forget=[
                forget_analyses,
                forget_marks,
                forget_studies_seen,
                forget_validation_of_gone,
                forget_signatures_of_gone,
            ],
            on_return=[rejections.noted, forwards.released, compressions.released],
            tells=events is not None,
            now=now,
        ),
        holds=DatabaseHolds(database),
        locks=DatabaseStudyLocks(database),
        retention=DatabaseRetention(database),
        expiry=DatabaseExpiry(database),
        worklist=DatabaseWorklist(database, on_change=on_entry, now=now),
        steps=DatabaseSteps(database, on_change=on_step, now=now),
        workitems=DatabaseWorkitems(
            database, follow_ups=options.follow_ups, on_change=on_workitem, now=now
        ),
        print_jobs=DatabasePrintJobs(database, films, now=now),
        films=films,
        commitments=DatabaseCommitments(
            database, on_change=[] if events is None else [events.commitment_changed], now=now
        ),
        reports=DatabaseReports(database, now=now),
        outbox=DatabaseOutbox(database, now=now),
        open_studies=DatabaseOpenStudies(
            database,
            include_patient=options.include_patient,
            on_complete=[compressions.study_complete, metadata.study_complete],
            now=now,
        ),
        event_log=DatabaseEventLog(database, now=now),
        rules=DatabaseRules(database, now=now),
        rule_history=DatabaseRuleHistory(database),
        forwards=forwards,
        compressions=compressions,
        metadata=metadata,
        usage=DatabaseUsage(database),
        validation=validation,
        signatures=signatures,
        links=DatabaseLinks(database),
        corrections=DatabaseCorrections(
            database,
            on_exchange=[] if events is None else [events.corrected],
            on_made=[staged_keys.made] if options.notes_keys else (),
            now=now,
        ),
        rejections=rejections,
        reconciliation=DatabaseReconciliation(database),
        analyses=analyses,
        assessments=DatabaseAssessments(database, now=now),
        tokens=DatabaseApiTokens(database),
        sessions=DatabaseSessions(database),
        share_links=DatabaseShareLinks(database),
        publications=DatabasePublications(database),
        deidentification=DatabaseDeidentificationMapping(database),
        marks=DatabaseMarks(database),
        viewer_states=DatabaseViewerStates(database),
        recent_studies=DatabaseRecentStudies(database),
        nodes=DatabaseNodes(database, on_change=[] if events is None else [events.node_changed]),
        limits=DatabaseLimits(database, now=now),
        jobs=DatabaseJobs(
            database,
            on_change=[] if events is None else [events.job_changed],
            node=options.node,
            now=now,
        ),
        tasks=DatabaseTasks(database),
        sync=DatabaseSync(database),
        staged_keys=staged_keys,
        tiers=DatabaseTiers(
            database, on_exchange=[staged_keys.exchanged] if options.notes_keys else (), now=now
        ),
        tables=DatabaseTables(database),
        members=DatabaseMembers(database),
        leases=DatabaseLeases(database),
        documents=DatabaseDocuments(database),
        timer=timer,
        clock=now,
    )
