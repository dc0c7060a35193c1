"""Commands of ours as processes that are forked from one that has imported all they need."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What counts for Python itself, when it starts.
_FOR_PYTHON = ("PYTHON", "LD_", "LC_", "LANG", "TZ")


class ForkedProcess(subprocess.Popen[bytes]):
    """A process that another one has forked for us; to be used as every `subprocess.Popen`."""

    def __init__(self, args: Sequence[str], pid: int, status: int) -> None:
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None
        self._child_created = False  # not by this class: `__del__` has nothing to look after
        self._communication_started = False
        self._status = status
        self._reading = threading.Lock()

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        return self._look(0)

    def _wait(self, timeout: float | None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            # Others may look, or send a signal, while one waits.
            poll = select.poll()
            poll.register(self._status, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                return None
            with self._reading:
                if self.returncode is None:
                    self.returncode = int(os.read(self._status, 16) or -9)  # empty: all were killed
                    os.close(self._status)
        return self.returncode

    def __del__(self) -> None:
        if self.returncode is None:
            os.close(self._status)


class Forking:
    """The process that forks, from the first command on until this process ends."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._one_at_a_time = threading.Lock()
        self._control: socket.socket | None = None
        self.pid = 0

    def takes(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment can be forked: more folders to import from are
        no obstacle."""
        searched = environment.get("PYTHONPATH", "") + os.pathsep
        return searched.startswith(self._environment["PYTHONPATH"] + os.pathsep) and all(
            environment.get(name) == self._environment.get(name)
            for name in {*environment, *self._environment} - {"PYTHONPATH"}
            if name.startswith(_FOR_PYTHON)
        )

    def start(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: int,
        cwd: Path | None = None,
    ) -> ForkedProcess:
        """`isocenter` with these *words*; its output and errors go to *stdout*."""
        request = {
            "words": list(words),
            "environment": dict(environment),
            "folder": os.fspath(Path.cwd() if cwd is None else cwd),
        }
        reader, writer = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            with self._one_at_a_time:
                control = self._control or self._begin()
                message = json.dumps(request).encode()
                socket.send_fds(control, [message], [nothing, stdout, stdout, writer])
                answer = control.recv(16)
        finally:
            os.close(writer)
            os.close(nothing)
        assert answer, "the process that forks has ended"
        return ForkedProcess(["isocenter", *words], int(answer), reader)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = theirs.fileno()
        script = Path(__file__).with_name("forking.py")
        # It ends when our end of the socket is closed, and that is when this process ends.
        process = subprocess.Popen(
            [sys.executable, str(script), str(number)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._environment,
            pass_fds=[number],
        )
        process.returncode = 0  # nobody waits for it
        self.pid = process.pid
        theirs.close()
        self._control = ours
        return ours
