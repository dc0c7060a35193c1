"""Output of ``isocenter ae``: application entities, and who was turned away."""

from __future__ import annotations

from collections.abc import Iterable

from isocenter.services.dicom import uid_registry as sop_classes
from isocenter.services.security.access.enforcement import Enforcement
from isocenter.services.security.access.permissions import (
    operations,
    permission_texts,
)
from isocenter.services.security.access.policy import (
    ApplicationEntity,
    Policy,
)
from isocenter.services.security.access.rejected_callers import RejectedCaller
from isocenter.services.system.log_format import escape


def without_entities(enforcement: Enforcement) -> str:
    """What a policy without application entities comes to."""
    if enforcement is Enforcement.ALWAYS:
        return "access.enforce is always, so nobody may associate"
    return "no policy is enforced: everybody is admitted as the settings say"


def print_list(policy: Policy, enforcement: Enforcement) -> None:
    """All of them, a line each."""
    if not policy.entities:
        print(without_entities(enforcement))
        return
    if enforcement is Enforcement.NEVER:
        print("not enforced: access.enforce is never")
    _print_table(
        ("AE TITLE", "STATE", "BY", "FROM", "ROLES", "USER"),
        (
            (
                one.ae_title,
                _state_of(policy, one),
                _by(one),
                " ".join(one.addresses) or "anywhere",
                " ".join(one.roles) or "-",
                one.user or "-",
            )
            for one in policy.entities
        ),
    )


def _state_of(policy: Policy, entity: ApplicationEntity) -> str:
    if not entity.active:
        return "denied"
    return "admitted" if policy.is_admitted(entity) else "user off"


def _by(entity: ApplicationEntity) -> str:
    if not entity.certificates:
        return "TLS" if entity.tls else "AE title"
    count = len(entity.certificates)
    return "certificate" if count == 1 else f"{count} certificates"


def print_entity(policy: Policy, entity: ApplicationEntity) -> None:
    """Everything about one."""
    rights = policy.permissions(entity, None)
    rows = [
        ("AE title", entity.ae_title),
        ("state", "admitted" if entity.active else "denied"),
        *(("certificate", str(rule)) for rule in entity.certificates),
        ("over TLS only", "yes" if entity.needs_tls else "no"),
        ("from", " ".join(entity.addresses) or "anywhere"),
        ("roles", " ".join(entity.roles) or "none"),
        ("user", entity.user or "-"),
        ("allowed", " ".join(permission_texts(entity.allowed)) or "-"),
        ("denied", " ".join(permission_texts(entity.denied)) or "-"),
        ("SOP classes", names_of(entity.sop_classes) or "all"),
        ("may", " ".join(operations(rights))),
        ("description", entity.description or "-"),
    ]
    for name, value in rows:
        print(f"{name:<14} {escape(value)}")


def names_of(some: Iterable[str]) -> str:
    """Names of SOP classes."""
    return ", ".join(sorted(sop_classes.name_of(uid) for uid in some))


def rejected_lines(caller: RejectedCaller) -> str:
    """Who was turned away how often, why, and what would admit them."""
    who = caller.calling_ae_title or "(no AE title)"
    called = f" calling {caller.called_ae_title}" if caller.called_ae_title else ""
    certificate = f", certificate {caller.certificate}" if caller.certificate else ""
    times = "once" if caller.count == 1 else f"{caller.count} times since {caller.first}"
    lines = [
        (f"{who} at {caller.address}{called}{certificate}: {times}, last {caller.last}"),
        f"    {caller.why}",
    ]
    if caller.cure:
        lines.append(f"    {caller.cure}")
    return "\n".join(map(escape, lines))


def _print_table(head: tuple[str, ...], body: Iterable[tuple[str, ...]]) -> None:
    rows = [head, *body]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print(escape("  ".join(cells).rstrip()))
