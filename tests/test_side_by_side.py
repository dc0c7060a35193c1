"""What lets tests run side by side: ports of their own, and turns."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

from support.ports import BLOCK, PORTS, free_port
from support.turns import turn

ASK = "from support.ports import free_port; print(free_port(), flush=True); input()"


def test_no_two_processes_are_given_the_same_ports() -> None:
    ours = {free_port() for _ in range(BLOCK // 2)}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )
        for _ in range(2)
    ]
    blocks = {min(ours) // BLOCK}
    for each in others:
        assert each.stdout is not None
        blocks.add(int(each.stdout.readline()) // BLOCK)
    for each in others:
        each.communicate("\n", timeout=120)
    assert len(blocks) == 3
    assert all(block * BLOCK in PORTS for block in blocks)
    # Half of the block was given out before one came again.
    assert len(ours) == BLOCK // 2


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert port not in {free_port() for _ in range(BLOCK - 1)}


def test_who_is_alone_waits_for_the_others_and_keeps_them_out(tmp_path: Path) -> None:
    began, order = threading.Event(), list[str]()

    def alone() -> None:
        began.set()
        with turn(tmp_path, alone=True):
            order.append("alone")

    def beside() -> None:
        with turn(tmp_path, alone=False):
            order.append("after")

    with turn(tmp_path, alone=False):
        second = threading.Thread(target=beside)
        second.start()
        second.join(120)  # beside one another
        assert order == ["after"]
        waiting = threading.Thread(target=alone)
        waiting.start()
        assert began.wait(120)
        order.append("first is done")
    waiting.join(120)
    with turn(tmp_path, alone=True):
        last = threading.Thread(target=beside)
        last.start()
        order.append("alone is done")
    last.join(120)
    assert order == ["after", "first is done", "alone", "alone is done", "after"]
