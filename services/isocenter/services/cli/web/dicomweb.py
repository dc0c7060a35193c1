"""``isocenter dicomweb``: search, retrieve, store, show and delete at a DICOMweb service."""

from __future__ import annotations

import argparse
from typing import Final

from isocenter.services.cli.support.actions import add_actions
from isocenter.services.cli.web import delete, metadata, render, retrieve, search, store
from isocenter.services.cli.web.service import add_service_options, run_web

DESCRIPTION: Final = """\
Search, retrieve and store over HTTP (DICOMweb, PS3.18), at this or any other server.  URL is the
address of the service, or of a study, series or instance in it."""
EXAMPLES: Final = """\
examples:
  isocenter dicomweb search http://localhost:8080/dicomweb --patient-name 'DOE*' -o table
  isocenter dicomweb retrieve http://localhost:8080/dicomweb --study-uid 1.2.3 -od downloads
  isocenter dicomweb retrieve http://localhost:8080/dicomweb/studies/1.2.3 -od all --skip-existing
  isocenter dicomweb store https://archive.example/dicomweb /media/cdrom --token-file token
  isocenter dicomweb metadata http://localhost:8080/dicomweb/studies/1.2.3 -o json
  isocenter dicomweb render http://localhost:8080/dicomweb/studies/1.2.3/series/1.2.3.4 -O a.jpg
  isocenter dicomweb delete https://archive.example/dicomweb --study-uid 1.2.3 --yes \\
                            --tls-cert ADMIN.crt --tls-key ADMIN.key --tls-ca ca.crt

exit codes: 0 done, 1 nothing matched or some of it failed, 2 arguments, or no connection"""

_ACTIONS: Final = {
    "search": (search, "search for studies, series or instances (QIDO-RS)"),
    "retrieve": (retrieve, "fetch objects or frames into files (WADO-RS)"),
    "store": (store, "store files and folders (STOW-RS)"),
    "metadata": (metadata, "show all attributes of instances (WADO-RS)"),
    "render": (render, "fetch pictures (WADO-RS)"),
    "delete": (delete, "delete studies, series or instances"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of dicomweb, each with its options."""
    actions = add_actions(parser, ((name, text) for name, (_, text) in _ACTIONS.items()))
    for name, action in actions:
        module, _ = _ACTIONS[name]
        action.description = module.DESCRIPTION
        action.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(action)
        add_service_options(action)


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit code."""
    module, _ = _ACTIONS[arguments.action]
    return run_web(arguments, module.work)
