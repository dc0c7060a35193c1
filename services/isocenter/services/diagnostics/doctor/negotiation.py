"""Associations with a peer: whether there is one, and what it accepts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from isocenter.engine.errors import (
    AssociationAbortedError,
    AssociationError,
    AssociationRejectedError,
    DeadlineExceeded,
    ProviderAbortedError,
    TransportLostError,
)
from isocenter.engine.negotiation import ACCEPTANCE, MOST_CONTEXTS, associate_request
from isocenter.engine.pdu import Abort, AssociateAccept, AssociateReject
from isocenter.engine.states import Sta
from isocenter.engine.uid import IMPLICIT_VR_LITTLE_ENDIAN, VERIFICATION
from isocenter.services.association.requestor import Context
from isocenter.services.diagnostics import findings as diagnosis
from isocenter.services.diagnostics.doctor.check import CheckResult, Tell, count
from isocenter.services.diagnostics.doctor.connectivity import PeerTarget
from isocenter.services.diagnostics.doctor.tls_probe import probe_tls
from isocenter.services.diagnostics.findings import Finding, Side, error, note, warning
from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.dicom.uid_registry import (
    BASIC_SYNTAXES,
    STORAGE_SOP_CLASSES,
    TRANSFER_SYNTAXES,
    name_of,
)
from isocenter.services.errors import ConnectError
from isocenter.services.net.transport import Transport
from isocenter.services.service_classes.client import ClientAssociation, open_association

#: A peer that takes less in one P-DATA-TF makes 16 KiB of data set two messages of the network.
_SMALL_PDU: Final = 16_384
_NO_LIMIT: Final = 0
_SHOWN: Final = 5
#: DCMTK does not answer at all when a presentation context has more than 50 transfer syntaxes.
_MOST_SYNTAXES: Final = 40
_IMAGES: Final = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7")

#: What an archive, a worklist or a modality may serve beside storage.
SERVICES: Final = (
    VERIFICATION,
    sop_classes.STUDY_ROOT_FIND,
    sop_classes.STUDY_ROOT_MOVE,
    sop_classes.STUDY_ROOT_GET,
    sop_classes.PATIENT_ROOT_FIND,
    sop_classes.PATIENT_ROOT_MOVE,
    sop_classes.PATIENT_ROOT_GET,
    "1.2.840.10008.5.1.4.31",  # Modality Worklist Information Model - FIND
    "1.2.840.10008.3.1.2.3.3",  # Modality Performed Procedure Step
    "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
    "1.2.840.10008.5.1.4.34.6.1",  # Unified Procedure Step - Push
)


def associate(
    way: PeerTarget, contexts: Sequence[Context], transport: Transport | None = None
) -> AbstractAsyncContextManager[ClientAssociation]:
    """An association as *way* goes."""
    return open_association(
        way.peer,
        contexts,
        calling_ae_title=way.calling_ae_title,
        tls=way.tls,
        max_pdu_length=way.max_pdu_length,
        transport=transport,
        deadlines=way.deadlines,
    )


async def check_association(way: PeerTarget, tell: Tell) -> bool:
    """AE titles, protocol and maximum lengths; whether there is an association at all."""
    what = "association"
    titles = f"{way.calling_ae_title} → {way.peer.ae_title}"
    try:
        async with associate(way, [(VERIFICATION, BASIC_SYNTAXES)]) as association:
            accept = association.accept
            tell(_accepted(what, titles, way, accept))
    except AssociationError as fault:
        tell(CheckResult(what, titles, tuple(await _why_none(way, fault))))
        return False
    return True


def _accepted(what: str, titles: str, way: PeerTarget, accept: AssociateAccept) -> CheckResult:
    about = accept.user_information
    version = about.implementation_version_name or "without a version name"
    length = about.max_pdu_length
    limit = "no limit" if length == _NO_LIMIT else f"{length:,} bytes"
    findings: list[Finding] = []
    if 0 < length < _SMALL_PDU:
        findings.append(
            note(
                f"the peer takes P-DATA-TF PDUs of {length:,} bytes at most",
                "PS3.8 D.1",
                "raise its maximum PDU length to 65,536 or 131,072",
                meaning="large objects take many small PDUs, which is slow",
                side=Side.PEER,
            )
        )
    result = {one.context_id: one.result for one in accept.presentation_contexts}.get(1)
    if result != ACCEPTANCE:
        findings.append(
            warning(
                "the peer accepts associations, and Verification not",
                "PS3.4 A.4",
                "switch Verification on; every acceptor has to serve it",
                meaning="C-ECHO cannot be used to see whether it is alive",
                side=Side.PEER,
            )
        )
    facts = {
        "max_pdu_length": length,
        "implementation_class_uid": about.implementation_class_uid,
        "implementation_version_name": about.implementation_version_name,
    }
    seen = f"{titles}, {version}, takes PDUs of {limit}"
    return CheckResult(what, seen, tuple(findings), facts=facts)


async def _why_none(way: PeerTarget, fault: AssociationError) -> list[Finding]:
    """In plain words, from the end of an association that never was."""
    peer = way.peer
    match fault:
        case AssociationRejectedError():
            found = diagnosis.of_reject(AssociateReject(fault.result, fault.source, fault.reason))
            return [_about_titles(way, found, (fault.source, fault.reason))]
        case TransportLostError():
            if way.tls is None:
                look = await probe_tls(peer, way.deadlines.tls_handshake)
                if look.speaks_tls:
                    return [
                        error(
                            "the peer speaks TLS on this port",
                            meaning="DICOM in the clear gets no answer there",
                            cure="add --tls (with --tls-cert, --tls-key and --tls-ca), or give "
                            "its port in the clear",
                            side=Side.HERE,
                        )
                    ]
            found = diagnosis.of_loss("peer", Sta.STA5)
            if way.tls is not None:
                cure = "the peer may want a certificate (--tls-cert, --tls-key) or refuse ours"
                found = replace(found, cure=f"{cure}; see its log")
            return [replace(found, side=Side.PEER)]
        case ProviderAbortedError(__cause__=None) | AssociationAbortedError():
            source = fault.source if isinstance(fault, AssociationAbortedError) else 2
            return [
                replace(diagnosis.of_abort(Abort(source, fault.reason), "peer"), side=Side.PEER)
            ]
        case ProviderAbortedError():
            return [
                error(
                    f"what came back is no DICOM: {fault}",
                    "PS3.8 9.3",
                    "give the port of its DICOM server; is there a web server, or a proxy?",
                    side=Side.EITHER,
                )
            ]
        case DeadlineExceeded():
            return [
                error(
                    f"no answer to A-ASSOCIATE-RQ: {fault}",
                    "PS3.8 9.1.4",
                    "look whether its DICOM server hangs, serves one peer at a time, or looks "
                    "our name up in a DNS that is slow",
                    meaning="something listens, takes the connection, and says nothing",
                    side=Side.PEER,
                )
            ]
        case ConnectError():
            return [error(str(fault), side=Side.BETWEEN)]
        case _:
            return [error(str(fault), side=Side.EITHER)]


def _about_titles(way: PeerTarget, found: Finding, reason: tuple[int, int]) -> Finding:
    match reason:
        case (1, 7):
            return replace(
                found,
                meaning=f"the peer is not called {way.peer.ae_title}",
                cure="give its AE title as AET@HOST:PORT, in its letters, or add ours as an alias "
                "at the peer",
                side=Side.EITHER,
            )
        case (1, 1 | 3) if way.is_self:
            return note(
                f"the archive answers, and its policy does not admit {way.calling_ae_title}",
                found.clause,
                "nothing; to have more examined, call with -aet as one that is admitted, or "
                f"isocenter ae add {way.calling_ae_title} --address 127.0.0.1",
                meaning="who is not in the policy is turned away, as it should be",
                side=Side.HERE,
            )
        case (1, 3):
            owner = (
                "; over TLS it may have to be the one that our certificate is for"
                if way.tls is not None
                else ""
            )
            return replace(
                found,
                meaning=f"the peer does not admit {way.calling_ae_title} from this address",
                cure=f"admit {way.calling_ae_title} and this machine's address at the peer, or "
                f"call with -aet as an AE title that it knows{owner}",
                side=Side.EITHER,
            )
        case _:
            return replace(found, side=Side.PEER)


# -- What it accepts ---------------------------------------------------------------------


async def check_services(way: PeerTarget, tell: Tell) -> None:
    """Which services beside storage; a refused one is no fault by itself."""
    results = await _results(way, [(uid, BASIC_SYNTAXES) for uid in SERVICES])
    tell(_result_of("services", "service", {uid: result for uid, (result, _) in results.items()}))


async def check_storage(way: PeerTarget, tell: Tell, *, thorough: bool) -> None:
    """Which storage SOP classes, and in which transfer syntaxes.

    Args:
        thorough: ask for every transfer syntax with every SOP class, and not with one only;
            some fifty associations.
    """
    syntaxes = tuple(TRANSFER_SYNTAXES)[:_MOST_SYNTAXES]
    results = await _results(way, [(uid, syntaxes) for uid in STORAGE_SOP_CLASSES])
    tell(
        _result_of(
            "storage", "storage SOP class", {uid: result for uid, (result, _) in results.items()}
        )
    )
    accepted = [uid for uid, (result, _) in results.items() if result == ACCEPTANCE]
    if not accepted:
        return
    asked = accepted if thorough else [next((u for u in _IMAGES if u in accepted), accepted[0])]
    by_class = await _transfer_syntaxes(way, asked)
    groups: defaultdict[frozenset[str], list[str]] = defaultdict(list)
    for uid, found in by_class.items():
        groups[frozenset(found)].append(uid)
    for taken, members in groups.items():
        tell(_checked_syntaxes(members, taken))


async def _results(way: PeerTarget, contexts: Sequence[Context]) -> dict[str, tuple[int, str]]:
    """Abstract syntax → result and chosen transfer syntax, over as many associations as needed."""
    found: dict[str, tuple[int, str]] = {}
    for some in _batches(contexts):
        for (abstract_syntax, _), result, chosen in await _negotiate(way, some):
            found[abstract_syntax] = result, chosen
    return found


async def _transfer_syntaxes(way: PeerTarget, classes: Iterable[str]) -> dict[str, set[str]]:
    """Storage SOP class → transfer syntaxes that are accepted when each is proposed alone."""
    asked = [(uid, (syntax,)) for uid in classes for syntax in TRANSFER_SYNTAXES]
    found: dict[str, set[str]] = {uid: set() for uid, _ in asked}
    for some in _batches(asked):
        for (abstract_syntax, _), result, chosen in await _negotiate(way, some):
            if result == ACCEPTANCE:
                found[abstract_syntax].add(chosen)
    return found


def _batches(contexts: Sequence[Context]) -> Iterator[Sequence[Context]]:
    for start in range(0, len(contexts), MOST_CONTEXTS):
        yield contexts[start : start + MOST_CONTEXTS]


async def _negotiate(
    way: PeerTarget, contexts: Sequence[Context]
) -> list[tuple[Context, int, str]]:
    request = associate_request(way.peer.ae_title, way.calling_ae_title, contexts)
    async with associate(way, contexts) as association:
        accept = association.accept
    answers = {one.context_id: one for one in accept.presentation_contexts}
    return [
        (context, answer.result, answer.transfer_syntax)
        for context, proposed in zip(contexts, request.presentation_contexts, strict=True)
        if (answer := answers.get(proposed.context_id)) is not None
    ]


def _result_of(what: str, noun: str, results: dict[str, int]) -> CheckResult:
    accepted = [uid for uid, result in results.items() if result == ACCEPTANCE]
    refused: defaultdict[int, list[str]] = defaultdict(list)
    for uid, result in results.items():
        if result != ACCEPTANCE:
            refused[result].append(uid)
    seen = f"{len(accepted)} of {count(len(results), noun, noun + 'es' if noun[-1] == 's' else '')}"
    if what == "services" and accepted:
        seen += f": {', '.join(name_of(uid) for uid in accepted)}"
    findings = tuple(_refused(result, uids) for result, uids in sorted(refused.items()))
    return CheckResult(
        what,
        f"{seen} accepted" if what != "services" else seen,
        findings,
        tuple(_lines(results)),
        {"accepted": accepted, "refused": {uid: r for uid, r in results.items() if r}},
    )


def _refused(result: int, uids: Sequence[str]) -> Finding:
    names = ", ".join(name_of(uid) for uid in uids[:_SHOWN])
    more = f" and {len(uids) - _SHOWN} more (-v names all)" if len(uids) > _SHOWN else ""
    return note(
        f"{diagnosis.CONTEXT_RESULTS.get(result, f'reserved result {result}')}: {names}{more}",
        "PS3.8 9.3.3.2",
        diagnosis.context_cure(result),
        side=Side.PEER,
    )


def _lines(results: dict[str, int]) -> Iterator[str]:
    for uid, result in results.items():
        why = diagnosis.CONTEXT_RESULTS.get(result, f"reserved result {result}")
        yield f"{name_of(uid)} ({uid}): {why}"


def _checked_syntaxes(classes: Sequence[str], found: frozenset[str]) -> CheckResult:
    ordered = [uid for uid in TRANSFER_SYNTAXES if uid in found]
    findings: tuple[Finding, ...] = ()
    if IMPLICIT_VR_LITTLE_ENDIAN not in found:
        findings = (
            warning(
                "implicit VR little endian is not accepted",
                "PS3.5 10.1",
                "switch the default transfer syntax on",
                meaning="who can send nothing else cannot send to it",
                side=Side.PEER,
            ),
        )
    refused = [uid for uid in TRANSFER_SYNTAXES if uid not in found]
    if refused and not findings:
        names = ", ".join(name_of(uid) for uid in refused[:_SHOWN])
        more = f" and {len(refused) - _SHOWN} more (-v names all)" if len(refused) > _SHOWN else ""
        findings = (
            note(
                f"not accepted: {names}{more}",
                "PS3.8 9.3.3.2",
                "send such objects uncompressed, or switch the transfer syntax on at the peer",
                side=Side.EITHER,
            ),
        )
    classes_seen = name_of(classes[0]) + (f" and {len(classes) - 1} more" if classes[1:] else "")
    return CheckResult(
        "transfer syntaxes",
        f"{len(found)} of {len(TRANSFER_SYNTAXES)} for {classes_seen}",
        findings,
        tuple(f"{name_of(uid)} ({uid})" for uid in ordered)
        + tuple(f"not {name_of(uid)} ({uid})" for uid in refused),
        {"sop_classes": list(classes), "accepted": ordered},
    )
