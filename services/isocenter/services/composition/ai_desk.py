"""Composition of what pages and the API show of AI services."""

from __future__ import annotations

from isocenter.services.composition.analyses import service_opener
from isocenter.services.composition.archive import ArchiveParts
from isocenter.services.composition.workflow import Workflow
from isocenter.services.integration.ai.desk import AiDesk
from isocenter.services.notices import Notices
from isocenter.services.settings.settings import Settings


def ai_desk(
    settings: Settings, parts: ArchiveParts, workflow: Workflow, notices: Notices
) -> AiDesk | None:
    """What pages and the API show of AI services; None: no jobs are done."""
    if workflow.jobs is None or workflow.analyses is None:
        return None
    return AiDesk(
        parts.archive,
        settings.ai_services,
        parts.stores.analyses,
        parts.stores.assessments,
        workflow.jobs,
        workflow.analyses,
        service_opener(parts.archive, notices),
        notices,
    )
