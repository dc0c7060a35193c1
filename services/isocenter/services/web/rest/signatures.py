"""Digital signatures of a stored object in the API."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from isocenter.engine.dataset import DataSetError
from isocenter.services.archive.ports import Index
from isocenter.services.archive.signature_marks.ports import SignatureBook
from isocenter.services.archive.signature_marks.verifier import MarkedCheck
from isocenter.services.dicom.signatures.algorithms import SignatureError
from isocenter.services.dicom.signatures.verification import VerifiedSignature
from isocenter.services.net.http.application import Handler
from isocenter.services.net.http.messages import HttpError, Request, Response
from isocenter.services.net.http.routing import Answer, Route
from isocenter.services.web.principal import caller_of
from isocenter.services.web.rest.bodies import Body, answer
from isocenter.services.web.rest.endpoints import endpoint
from isocenter.services.web.rest.policy_answers import changing
from isocenter.services.web.rest.stored_instances import OF_INSTANCE, instance_named

log = logging.getLogger("isocenter.web")


class SignatureShown(Body):
    """A digital signature and what came of its verification; `state`: valid, weak algorithm,
    invalid, expired, untrusted signer or revoked; `place`: sequences and items (from 0) around
    it."""

    uid: str
    place: str
    state: str
    why: str
    notes: list[str]
    signer: str
    organization: str
    issuer: str
    thumbprint: str
    made_at: str | None
    timestamp: str | None
    mac_algorithm: str
    purpose: str
    profiles: list[str]
    signed: list[str]
    unsigned: list[str]


class SignaturesOfInstance(Body):
    """The signatures of an instance; none: it is not signed."""

    signatures: list[SignatureShown]


class SignatureMarkShown(Body):
    """How many objects have one mark; `state`: unknown, as long as nobody has verified them, or of
    the worst signature of each: valid, weak algorithm, untrusted signer, expired, revoked or
    invalid; `example`: the SOP Instance UID of one."""

    state: str
    signer: str
    purpose: str
    objects: int
    example: str


class SignaturesOfStudy(Body):
    """How many objects of a study are signed, and what their signatures are worth."""

    objects: int
    marks: list[SignatureMarkShown]


class SignatureApi:
    """Verifies signatures when they are asked for."""

    def __init__(self, index: Index, check: MarkedCheck, book: SignatureBook | None = None) -> None:
        self._index = index
        self._check = check
        self._book = book

    def routes(self) -> Iterator[Route[Handler]]:
        """Where it is."""
        yield endpoint(
            "GET", "/instances/{instance}/signatures", self.show, needs="read",
            text="The digital signatures of an instance (PS3.15 Annex C), verified now.",
            name="VerifySignatures", service="Viewer support", gives=SignaturesOfInstance,
            answers=(*OF_INSTANCE, Answer(503, "A file of certificates cannot be read.")),
        )  # fmt: skip
        if self._book is not None:
            yield endpoint(
                "GET", "/signatures/studies/{study}", self.of_study, needs="search",
                text="Marks of the signed objects of a study: what their last verification found.",
                name="GetSignaturesOfStudy", service="Viewer support", gives=SignaturesOfStudy,
            )  # fmt: skip

    async def show(self, request: Request) -> Response:
        """The handler."""
        stored = await instance_named(self._index, request)
        try:
            found = await self._check.verify(stored, caller_of(request))
        except KeyError:
            raise HttpError(410, "GONE", "the object is not there any more") from None
        except SignatureError as error:
            log.error("signatures cannot be verified: %s", error)
            what = "a file of certificates cannot be read; see the log"
            raise HttpError(503, "NO_CERTIFICATES", what) from error
        except DataSetError as error:
            raise HttpError(406, "UNREADABLE", f"the data set cannot be read: {error}") from error
        return answer(SignaturesOfInstance(signatures=[_shown(one) for one in found]))

    async def of_study(self, request: Request) -> Response:
        """The handler."""
        assert self._book is not None
        async with changing():
            found = await self._book.of_study(request.arguments["study"])
        marks = [
            SignatureMarkShown(
                state=one.state,
                signer=one.signer,
                purpose=one.purpose,
                objects=one.objects,
                example=one.example,
            )
            for one in found
        ]
        return answer(SignaturesOfStudy(objects=sum(one.objects for one in marks), marks=marks))


def _shown(one: VerifiedSignature) -> SignatureShown:
    signer = one.signer
    return SignatureShown(
        uid=one.uid,
        place="/".join(f"{tag:08X}/{number}" for tag, number in one.place),
        state=one.state.value,
        why=one.why,
        notes=list(one.notes),
        signer=signer.common_name if signer else "",
        organization=signer.organization if signer else "",
        issuer=signer.issuer if signer else "",
        thumbprint=signer.thumbprint if signer else "",
        made_at=one.made_at.isoformat() if one.made_at else None,
        timestamp=one.timestamp.isoformat() if one.timestamp else None,
        mac_algorithm=one.mac_algorithm,
        purpose=one.purpose,
        profiles=[profile.value for profile in one.profiles],
        signed=[f"{tag:08X}" for tag in one.tags],
        unsigned=[f"{tag:08X}" for tag in one.unsigned],
    )
