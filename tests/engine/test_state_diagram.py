"""The drawing in the documentation is what the table that runs gives."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from isocenter.engine.states import Action, Evt, Sta
from isocenter.engine.upper_layer import NEXT_STATE, TABLE_9_10

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "state_diagram.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("state_diagram", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


diagram = load()


def words(drawing: str) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(drawing).iter() if node.text]


def test_the_committed_drawing_is_what_the_table_gives() -> None:
    committed = diagram.DRAWING.read_text("utf-8")
    assert committed == diagram.draw(), "run: python docs/state_diagram.py"


def test_every_filled_cell_is_drawn_once_and_the_two_choices_twice() -> None:
    cells = Counter((t.evt, t.sta) for t in diagram.transitions())
    assert set(cells) == set(TABLE_9_10)
    twice = {cell for cell, count in cells.items() if count == 2}
    assert twice == {(Evt.EVT6, Sta.STA2), (Evt.EVT12, Sta.STA7)}
    assert max(cells.values()) == 2


def test_arrows_and_boxes_together_name_every_transition() -> None:
    drawing = diagram.draw()
    found = list(diagram.transitions())
    arrows = [t for t in found if diagram._is_arrow(t)]
    texts = words(drawing)
    for arrow in arrows:
        label = f"{arrow.evt} {arrow.action}"
        assert sum(text.startswith(label) for text in texts) == sum(
            (t.evt, t.action) == (arrow.evt, arrow.action) for t in arrows
        )
    in_boxes = sum(len(numbers(text)) for text in texts if text.startswith(("stays: ", "→ ")))
    assert in_boxes == len(found) - len(arrows)
    assert drawing.count("<polyline") == len({(t.sta, t.next_sta) for t in arrows})


def numbers(line: str) -> list[int]:
    """``→ Sta13: AA-8 on Evt3–4, 6`` → 3, 4, 6."""
    found: list[int] = []
    for part in line.partition(" on Evt")[2].split(", "):
        first, _, last = part.partition("–")
        found += range(int(first), int(last or first) + 1)
    return found


@pytest.mark.parametrize("cell", [(Evt.EVT10, Sta.STA8), (Evt.EVT4, Sta.STA5)])
def test_another_table_is_another_drawing(
    monkeypatch: pytest.MonkeyPatch, cell: tuple[Evt, Sta]
) -> None:
    before = diagram.draw()
    monkeypatch.setitem(TABLE_9_10, cell, Action.AR_6)
    after = diagram.draw()
    assert after != before
    assert f"{cell[0]} AR-6" in after or f"AR-6 on {cell[0]}" in after


def test_another_next_state_is_another_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = diagram.draw()
    monkeypatch.setitem(NEXT_STATE, Action.AR_4, Sta.STA1)
    assert diagram.draw() != before
