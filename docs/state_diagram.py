"""Draw the state machine of PS3.8 9.2 from the table that runs.

    python docs/state_diagram.py

writes ``docs/reference/state-diagram.svg``.  Every transition is found by asking
`isocenter.engine.upper_layer.step`; only where the boxes stand and how arrows run is written
here.  A test fails when the committed drawing is not what the table gives.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from isocenter.engine.events import AssociationReleased
from isocenter.engine.negotiation import PROTOCOL_VERSION_NOT_SUPPORTED, Role
from isocenter.engine.pdu import Abort
from isocenter.engine.states import EVENTS, STATES, Action, Evt, Sta
from isocenter.engine.upper_layer import TABLE_9_10, StepInput, UpperLayerState, step

DRAWING = Path(__file__).parent / "reference" / "state-diagram.svg"


class Transition(NamedTuple):
    """One filled cell, or one of the two outcomes of a cell that has a choice.

    Attributes:
        condition: when a cell has a choice, what decides; else empty.
    """

    sta: Sta
    evt: Evt
    action: Action
    next_sta: Sta
    condition: str


def transitions() -> Iterator[Transition]:
    """What `step` does in every filled cell, in the order of the table's columns."""
    order = {sta: number for number, sta in enumerate(Sta)}
    for evt, sta in sorted(TABLE_9_10, key=lambda cell: (order[cell[1]], list(Evt).index(cell[0]))):
        action = TABLE_9_10[evt, sta]
        outcomes: dict[Sta, list[str]] = {}
        for role in Role:
            for condition, given in _given(evt, action):
                state, _ = step(UpperLayerState(sta, role), evt, given)
                outcomes.setdefault(state.sta, []).append(condition or f"as {role.value}")
        for next_sta, conditions in outcomes.items():
            condition = conditions[0] if len(outcomes) > 1 else ""
            yield Transition(sta, evt, action, next_sta, condition)


def _given(evt: Evt, action: Action) -> Iterator[tuple[str, StepInput]]:
    """What may come with an event, and the name of the choice that depends on it."""
    if action is Action.AE_6:
        yield "acceptable", StepInput(indication=AssociationReleased())
        yield "not acceptable", StepInput(reject=PROTOCOL_VERSION_NOT_SUPPORTED)
    elif evt is Evt.EVT16:
        yield "", StepInput(received=Abort(0, 0))
    else:
        yield (
            "",
            StepInput(
                received=PROTOCOL_VERSION_NOT_SUPPORTED, reject=PROTOCOL_VERSION_NOT_SUPPORTED
            ),
        )


# Where things stand.  Pixels; y grows downwards.

WIDTH, HEIGHT = 1750, 1330
BOX_WIDTH = 300
LINE_HEIGHT = 15
LABEL_STEP = 21
LEFT, MIDDLE, RIGHT = 330, 770, 1270
#: Where the long ways home run: from Sta7 and Sta11, into Sta13, from Sta13.
HOME, TO_STA13, FROM_STA13 = 30, 1690, 1720

CENTRES = {
    Sta.STA1: (MIDDLE, 90),
    Sta.STA4: (LEFT, 260),
    Sta.STA2: (RIGHT, 260),
    Sta.STA5: (LEFT, 440),
    Sta.STA3: (RIGHT, 440),
    Sta.STA6: (MIDDLE, 620),
    Sta.STA7: (LEFT, 810),
    Sta.STA8: (RIGHT, 810),
    Sta.STA9: (LEFT, 1000),
    Sta.STA10: (MIDDLE, 1000),
    Sta.STA11: (LEFT, 1190),
    Sta.STA12: (MIDDLE, 1190),
    Sta.STA13: (RIGHT, 1190),
}
HALF = BOX_WIDTH // 2


class Route(NamedTuple):
    """The corners of an arrow, and where its label starts."""

    corners: tuple[tuple[int, int], ...]
    label: tuple[int, int]


#: Arrows that are not a straight line down.  They start and end within the boxes, which are
#: drawn over them; heads stand where a box begins.
ROUTES = {
    (Sta.STA1, Sta.STA4): Route(((MIDDLE, 95), (LEFT, 95), (LEFT, 260)), (LEFT + 8, 88)),
    (Sta.STA1, Sta.STA2): Route(((MIDDLE, 95), (RIGHT, 95), (RIGHT, 260)), (MIDDLE + 168, 88)),
    (Sta.STA5, Sta.STA1): Route(((LEFT, 425), (700, 425), (700, 90)), (LEFT + 158, 418)),
    (Sta.STA5, Sta.STA6): Route(((LEFT, 440), (LEFT, 625), (MIDDLE, 625)), (LEFT + 8, 618)),
    (Sta.STA3, Sta.STA6): Route(((RIGHT, 440), (RIGHT, 625), (MIDDLE, 625)), (MIDDLE + 168, 618)),
    (Sta.STA6, Sta.STA7): Route(((700, 620), (700, 785), (LEFT, 785)), (LEFT + 168, 778)),
    (Sta.STA6, Sta.STA8): Route(((840, 620), (840, 785), (RIGHT, 785)), (848, 778)),
    (Sta.STA7, Sta.STA10): Route(((LEFT, 830), (MIDDLE, 830), (MIDDLE, 1000)), (LEFT + 158, 823)),
    (Sta.STA7, Sta.STA1): Route(
        ((LEFT, 810), (HOME, 810), (HOME, 70), (MIDDLE, 70)), (HOME + 8, 803)
    ),
    (Sta.STA11, Sta.STA1): Route(
        ((LEFT, 1190), (HOME, 1190), (HOME, 70), (MIDDLE, 70)), (HOME + 8, 1183)
    ),
    (Sta.STA12, Sta.STA13): Route(((MIDDLE, 1200), (RIGHT, 1200)), (MIDDLE + 158, 1193)),
    (Sta.STA2, Sta.STA13): Route(
        ((RIGHT, 260), (TO_STA13, 260), (TO_STA13, 1180), (RIGHT, 1180)), (RIGHT + 158, 253)
    ),
    (Sta.STA3, Sta.STA13): Route(
        ((RIGHT, 440), (TO_STA13, 440), (TO_STA13, 1180), (RIGHT, 1180)), (RIGHT + 158, 433)
    ),
    (Sta.STA13, Sta.STA1): Route(
        ((RIGHT, 1210), (FROM_STA13, 1210), (FROM_STA13, 70), (MIDDLE, 70)), (RIGHT + 158, 1227)
    ),
}


def _route(sta: Sta, next_sta: Sta) -> Route:
    if (sta, next_sta) in ROUTES:
        return ROUTES[sta, next_sta]
    start, end = CENTRES[sta], CENTRES[next_sta]
    middle = (start[0] + end[0]) // 2 + 8, (start[1] + end[1]) // 2 - 4
    return Route((start, end), middle)


# Drawing.

_HEAD = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" \
font-family="sans-serif" font-size="12" role="img">
<title>The state machine of the DICOM upper layer</title>
<desc>All transitions of PS3.8 Table 9-10; drawn by docs/state_diagram.py, not by hand.</desc>
<style>
.box {{ fill: #f6f8fa; stroke: #24292f; }}
.arrow {{ fill: none; stroke: #0550ae; stroke-width: 1.5; }}
.tip {{ fill: #0550ae; }}
.name {{ font-size: 15px; font-weight: bold; }}
.label {{ font-weight: bold; fill: #0550ae; }}
.small {{ font-size: 11px; fill: #57606a; }}
</style>
<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>
"""

_LEGEND = (
    "Arrows: the ways that an association goes; above Sta6 those of the requestor on the left.",
    "In the boxes: the aborts (AA), and what leaves the state unchanged.",
)


def _is_arrow(transition: Transition) -> bool:
    """Aborts (AA-*) and what stays in its state stand inside the boxes."""
    return transition.sta is not transition.next_sta and not transition.action.value.startswith(
        "AA-"
    )


def _text(x: int, y: int, text: str, style: str, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>\n'


def _ranges(evts: Iterable[Evt]) -> str:
    """``Evt3–4, 6``"""
    runs: list[list[int]] = []
    for number in sorted(int(evt.value.removeprefix("Evt")) for evt in evts):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "Evt" + ", ".join(
        str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs
    )


def _lines_in_box(sta: Sta, found: list[Transition]) -> list[str]:
    inside = [t for t in found if t.sta is sta and not _is_arrow(t)]
    lines = []
    for next_sta in Sta:
        by_action: dict[Action, list[Evt]] = {}
        for transition in inside:
            if transition.next_sta is next_sta:
                by_action.setdefault(transition.action, []).append(transition.evt)
        start = "stays" if next_sta is sta else f"→ {next_sta}"
        lines += [f"{start}: {action} on {_ranges(evts)}" for action, evts in by_action.items()]
    return lines


def _box(sta: Sta, found: list[Transition]) -> tuple[int, str]:
    """Half of its height, and the box."""
    meaning = textwrap.wrap(STATES[sta], 46)
    exits = _lines_in_box(sta, found)
    height = 30 + LINE_HEIGHT * (len(meaning) + len(exits))
    x, y = CENTRES[sta]
    left, line = x - HALF, y - height // 2
    drawn = (
        f'<rect x="{left}" y="{line}" width="{BOX_WIDTH}" height="{height}" rx="6" class="box"/>\n'
    )
    line += 19
    drawn += _text(x, line, str(sta), "name", "middle")
    for text in meaning:
        line += LINE_HEIGHT
        drawn += _text(x, line, text, "meaning", "middle")
    for text in exits:
        line += LINE_HEIGHT
        drawn += _text(left + 10, line, text, "small")
    return height // 2, drawn


def _arrow(sta: Sta, next_sta: Sta, half_height: int, group: list[Transition]) -> str:
    corners, (x, y) = _route(sta, next_sta)
    points = " ".join(f"{px},{py}" for px, py in corners)
    drawn = f'<polyline points="{points}" class="arrow"/>\n'
    drawn += _tip(corners[-2], corners[-1], CENTRES[next_sta], half_height)
    for transition in group:
        condition = f" ({transition.condition})" if transition.condition else ""
        drawn += _text(x, y, f"{transition.evt} {transition.action}{condition}", "label")
        if not condition:
            y += LABEL_STEP  # the arrow may run between the two lines
            drawn += _text(x, y, EVENTS[transition.evt], "small")
        y += LINE_HEIGHT
    return drawn


def _tip(
    before: tuple[int, int], end: tuple[int, int], centre: tuple[int, int], half_height: int
) -> str:
    """The head of an arrow where its last leg meets the box."""
    if before[0] == end[0]:
        side = -1 if before[1] < end[1] else 1
        x, y = end[0], centre[1] + side * half_height
        return f'<path d="M{x},{y} l-5,{side * 10} h10 z" class="tip"/>\n'
    side = -1 if before[0] < end[0] else 1
    x, y = centre[0] + side * HALF, end[1]
    return f'<path d="M{x},{y} l{side * 10},-5 v10 z" class="tip"/>\n'


def draw() -> str:
    """The drawing, as SVG text; the same for the same table."""
    found = list(transitions())
    boxes = {sta: _box(sta, found) for sta in Sta}
    arrows = sorted(
        filter(_is_arrow, found),
        key=lambda t: (list(Sta).index(t.sta), list(Sta).index(t.next_sta)),
    )
    drawn = _HEAD
    labels = ""
    for (sta, next_sta), group in groupby(arrows, key=lambda t: (t.sta, t.next_sta)):
        labels += _arrow(sta, next_sta, boxes[next_sta][0], list(group))
    drawn += labels
    drawn += "".join(box for _, box in boxes.values())
    for line, text in enumerate(_LEGEND, 1):
        drawn += _text(20, HEIGHT - 45 + LINE_HEIGHT * line, text, "small")
    return drawn + "</svg>\n"


if __name__ == "__main__":
    DRAWING.write_text(draw(), "utf-8")
