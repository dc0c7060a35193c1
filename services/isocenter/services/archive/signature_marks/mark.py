"""Mark that the verification of its digital signatures leaves on an object."""

from __future__ import annotations

from typing import Final

from isocenter.engine.fast_init import dataclass

#: In the place of a `SignatureState`: nobody has verified it yet, or could.
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureMark:
    """What an object's signatures are worth.

    Attributes:
        state: of the worst of them, the value of a `SignatureState`; or `UNKNOWN`.
        signatures: how many there are.
        signer, purpose: of the worst, as its certificate and the signature say.
    """

    state: str = UNKNOWN
    signatures: int = 0
    signer: str = ""
    purpose: str = ""
