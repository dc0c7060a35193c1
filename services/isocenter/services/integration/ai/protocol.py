"""Messages of the inference protocol: what is asked and answered, without a network.

====== ======================== =======================================================
POST   ``/studies``             the objects, by STOW-RS (PS3.18 10.5)
POST   ``/inference``           a request; 201 or 202 with ``job_id``
GET    ``/inference/{job}``     how far it is
GET    ``…/{job}/results``      what came of it: multipart/related, Part 10 files
DELETE ``/inference/{job}``     not wanted any more
GET    ``/health``              whether the service is well
GET    ``/models``              what it can do; ``/models/{model}``: one of them
====== ======================== =======================================================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

import orjson

from isocenter.engine.fast_init import dataclass
from isocenter.services.integration.ai.requests import AnalysisError, AnalysisRequest

#: Of an answer that is JSON.
MOST_ANSWER: Final = 1 << 20
_MOST_MODELS: Final = 500
_MOST_TEXT: Final = 200
_MOST_LIST: Final = 100
_REMOTE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")


class RemoteState(Enum):
    """How far a service says that it is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def is_final(self) -> bool:
        return self not in (RemoteState.PENDING, RemoteState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStatus:
    """What a service says of a request.

    Attributes:
        progress: in percent.
        message: in its words, cut; it may say anything.
        results: SOP Instance UIDs that it says it has made.
    """

    state: RemoteState
    progress: int = 0
    message: str = ""
    results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """A model of a service."""

    model_id: str
    name: str
    version: str
    description: str
    modalities: tuple[str, ...]
    outputs: tuple[str, ...]
    is_available: bool


def request_body(
    request: AnalysisRequest,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    parameters: Mapping[str, str],
    callback_url: str,
) -> bytes:
    """What is posted.

    Args:
        study_instance_uid, series_instance_uid: as the objects have them that were sent.
        callback_url: empty: nobody can be called back.
    """
    body: dict[str, Any] = {
        "request_id": request.request_id,
        "study_instance_uid": study_instance_uid,
        "series_instance_uid": series_instance_uid,
        "model_id": request.model,
        "parameters": dict(parameters),
        "metadata": {},
    }
    if callback_url:
        body["callback_url"] = callback_url
    return orjson.dumps(body)


def read_job_id(content: bytes) -> str:
    """What a service calls a request that it took.

    Raises:
        AnalysisError: it does not say.
    """
    found = _text(_object(content).get("job_id"), 128)
    if _REMOTE_ID.fullmatch(found) is None:
        raise AnalysisError("the service took the request and names no job_id that can be asked")
    return found


def read_status(content: bytes) -> RemoteStatus:
    """How far a request is.

    Raises:
        AnalysisError: the answer does not say.
    """
    answer = _object(content)
    said = answer.get("status")
    if said not in [state.value for state in RemoteState]:
        raise AnalysisError("the service does not say how far the request is (status)")
    progress = answer.get("progress", 0)
    is_number = isinstance(progress, int | float) and not isinstance(progress, bool)
    uids = answer.get("result_uids")
    return RemoteStatus(
        state=RemoteState(said),
        progress=int(min(max(progress, 0), 100)) if is_number else 0,
        message=_text(answer.get("error")) or _text(answer.get("message")),
        results=_texts(uids, _MOST_LIST),
    )


def read_models(content: bytes) -> list[RemoteModel]:
    """The models of a service; those without a name are left out.

    Raises:
        AnalysisError: the answer is no list of models.
    """
    answer = _json(content)
    listed = answer.get("models") if isinstance(answer, dict) else answer
    if not isinstance(listed, list):
        raise AnalysisError("the service answers with no list of models")
    models = [_model(one) for one in listed[:_MOST_MODELS] if isinstance(one, dict)]
    return [model for model in models if model.model_id]


def _model(one: Mapping[str, Any]) -> RemoteModel:
    return RemoteModel(
        model_id=_text(one.get("model_id") or one.get("id")),
        name=_text(one.get("name")),
        version=_text(one.get("version")),
        description=_text(one.get("description")),
        modalities=_texts(one.get("modalities"), _MOST_LIST),
        outputs=_texts(one.get("output_types"), _MOST_LIST),
        is_available=one.get("available", True) is True,
    )


def _object(content: bytes) -> Mapping[str, Any]:
    answer = _json(content)
    if not isinstance(answer, dict):
        raise AnalysisError("the service answers with no object in JSON")
    return answer


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except ValueError as error:
        raise AnalysisError("the service answers with something that is no JSON") from error


def _text(value: object, most: int = _MOST_TEXT) -> str:
    """A text on one line, cut; anything else says nothing."""
    if not isinstance(value, str):
        return ""
    return "".join(one if one.isprintable() else " " for one in value[:most]).strip()


def _texts(value: object, most: int) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(filter(None, (_text(one) for one in value[:most])))
