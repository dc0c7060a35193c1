"""A Python that has imported our command line, and forks a process for each command.

`support.forked` starts it, and sends over a socket what is to run.  To import is most of what a
command costs, and tests start hundreds.  A process that is forked has its own everything; only
``/proc/PID/cmdline`` says something else.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys

#: Imported once; their imports are those of nearly all commands.
from isocenter.services.cli import main
from isocenter.services.cli.archive import db
from isocenter.services.cli.scu import findscu, storescu
from isocenter.services.cli.server import serve, server_process
from isocenter.storage.database.sqlite.schema import empty_database

IMPORTED = (db, findscu, serve, server_process, storescu)
MOST_BYTES = 1 << 17
#: Standard input, output and errors, and where to write how it ended.
DESCRIPTORS = 4


def next_command(control: socket.socket) -> list[str]:
    """Fork for each command; the arguments of one, in its own process.

    The parent process ends when nobody is left who would want one.
    """
    poll = select.poll()
    poll.register(control, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for descriptor, _ in poll.poll():
            if descriptor != control.fileno():
                pid, status = running.pop(descriptor)
                poll.unregister(descriptor)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                try:
                    os.write(status, str(code).encode())
                except BrokenPipeError:
                    pass  # nobody wants to know
                os.close(status)
                os.close(descriptor)
                continue
            message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, DESCRIPTORS)
            if not message:
                for pid, _ in running.values():
                    os.kill(pid, signal.SIGKILL)
                sys.exit()
            pid = os.fork()
            if not pid:
                control.detach()
                return become(json.loads(message), descriptors)
            for each in descriptors[:3]:
                os.close(each)
            watched = os.pidfd_open(pid)
            running[watched] = pid, descriptors[3]
            poll.register(watched, select.POLLIN)
            control.send(str(pid).encode())


def become(request: dict[str, object], descriptors: list[int]) -> list[str]:
    """Make this process what `python -m isocenter.services.cli` would be; its arguments."""
    for place, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, place)
    os.closerange(3, max(1024, *descriptors) + 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    searched = os.environ["PYTHONPATH"].split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["environment"])
    more = os.environ["PYTHONPATH"].split(os.pathsep)[len(searched) :]
    sys.path[: 1 + len(searched)] = [os.getcwd(), *searched, *more]
    sys.argv = ["isocenter", *request["words"]]
    return sys.argv[1:]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever has started us
    # Made once a process; a tenth of a second for each new archive.
    empty_database()
    # What is there stays; to collect it would copy all pages in each process.
    gc.freeze()
    sys.exit(main(next_command(socket.socket(fileno=int(sys.argv[1])))))
