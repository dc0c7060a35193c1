"""Caller: who is at the other end of an association or connection."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass

#: What whoever has proven nothing is called where its user would stand; no user has this name.
ANONYMOUS: Final = "anonymous"
#: The archive itself, where it acts without being asked; no user has this name.
SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is at the other end of an association, as far as it is known.

    Attributes:
        association: names the association within this process, in log, audit and traces.
        address: ``host:port``.
        certificate: common name of the verified certificate; empty: there was none.
        user: who the user identity item proved the peer to be (PS3.7 D.3.3.7), or who is behind its
            AE title by the policy; empty: nobody.
    """

    association: str
    address: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    is_tls: bool = False
    certificate: str = ""
    user: str = ""

    @property
    def principal(self) -> str:
        """Who is proven to be there: its user, else its certificate, else `ANONYMOUS`."""
        return self.user or self.certificate or ANONYMOUS


class WingNotice:
    """Base of the notices that a wing declares beside what they tell of."""

    __slots__ = ()
