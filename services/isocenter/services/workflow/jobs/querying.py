"""Query job: asks a node which studies it has, and keeps the answer."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from isocenter.services.workflow.jobs.job import Job
from isocenter.services.workflow.jobs.ports import JobResults
from isocenter.services.workflow.nodes.ports import RemoteArchive

#: What one job keeps of an answer.
MOST_STUDIES: Final = 5_000


async def query(job: Job, results: JobResults, remote: RemoteArchive) -> None:
    """Ask once; that there is no study is an answer, too.

    Raises:
        IsocenterError: the node cannot be reached, is lost, or refuses.
    """
    studies = await remote.search(job.request.keys, MOST_STUDIES)
    await results.keep_results(job, [asdict(study) for study in studies])
