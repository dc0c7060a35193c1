"""Seed corpora and dictionaries, written from the engine's own encoders and tables.

    python fuzz/seeds.py

Writes ``fuzz/corpus/TARGET/NAME`` and ``fuzz/TARGET.dict``.  What fuzzing added to the
corpora has names that are hexadecimal numbers, and stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from corpora import CORPUS, TARGETS, Seeds, dictionary_of, files, is_grown
from seeding import data_sets, models, pixels, protocol, sharing, web, worklist
from seeding.words import dictionary

SEEDS: Final[Mapping[str, Callable[[], Seeds]]] = {
    "acceptor": protocol.acceptor,
    "codestreams": pixels.codestreams,
    "entries": worklist.entries,
    "file_meta": data_sets.file_meta,
    "frames": data_sets.frames,
    "framing": protocol.framing,
    "http": web.http,
    "identifiers": data_sets.identifiers,
    "messages": protocol.messages,
    "models": models.models,
    "payloads": pixels.payloads,
    "pdus": protocol.pdus,
    "pictures": pixels.pictures,
    "reader": data_sets.reader,
    "records": data_sets.records,
    "reencoder": data_sets.reencoder,
    "requestor": protocol.requestor,
    "scanner": data_sets.scanner,
    "shared": sharing.shared,
    "stray_meta": data_sets.stray_meta,
    "validation": data_sets.validation,
    "values": protocol.values,
    "worklist": worklist.worklist,
}


def main() -> None:
    for name in TARGETS:
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for path in files(folder):
            if not is_grown(path):
                path.unlink()
        for seed, data in SEEDS[name]().items():
            (folder / seed).write_bytes(data)
        dictionary_of(name).write_text(dictionary(name), "ascii")


if __name__ == "__main__":
    main()
