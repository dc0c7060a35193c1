"""That fuzzing would notice: bounds, mutator, minimiser, seeds and dictionaries."""

from __future__ import annotations

import random
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"
sys.path.append(str(FUZZ))
bounds = import_module("bounds")
corpora = import_module("corpora")
cutting = import_module("cutting")
minimise = import_module("minimise")
mutator = import_module("mutator")
reach = import_module("reach")
runner = import_module("run")
seeds = import_module("seeds")
words = import_module("seeding.words")

#: A corpus is cloned with the rest, and read by people.
MOST_BYTES = 400 << 10


def nothing(data: bytes) -> None:
    pass


def breaks_on_ab(data: bytes) -> None:
    if b"a" in data and b"b" in data:
        raise ValueError("found")


def loops_on_a(data: bytes) -> None:
    while b"a" in data:
        pass


def holds_on_a(data: bytes) -> None:
    if b"a" in data:
        bytes(bounds.MOST_BYTES_BESIDE + bounds.MOST_TIMES_ITS_LENGTH * len(data))


# Bounds.


@pytest.mark.skipif(sys.platform == "win32", reason="no interval timer")
def test_an_endless_loop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MOST_SECONDS", 0.02)
    with pytest.raises(bounds.TookTooLong):
        bounds.run_timed(loops_on_a, b"a")
    bounds.run_timed(loops_on_a, b"b")


def test_what_holds_too_much_is_noticed() -> None:
    with pytest.raises(bounds.HeldTooMuch):
        bounds.run_measured(holds_on_a, b"a")
    bounds.run_measured(holds_on_a, b"b")


def test_of_many_inputs_some_are_measured() -> None:
    found = 0
    for count in range(2 * bounds.MEASURE_EVERY):
        try:
            bounds.run_bounded(holds_on_a, b"a", count)
        except bounds.HeldTooMuch:
            found += 1
    assert found == 2


# The mutator.


def test_the_mutator_finds_what_a_few_changes_reach() -> None:
    with pytest.raises(mutator.Found) as found:
        mutator.fuzz(breaks_on_ab, [b"a", b"x"], [b"b"], seconds=60, seed=1)
    assert isinstance(found.value.__cause__, ValueError)
    assert b"a" in found.value.data
    assert b"b" in found.value.data


def test_the_mutator_runs_the_corpus_first_and_counts() -> None:
    ran = []
    count = mutator.fuzz(ran.append, [b"one", b"two"], [], seconds=1, seed=1)
    assert ran[:2] == [b"one", b"two"]
    assert count == len(ran)


def test_one_seed_makes_the_same_inputs() -> None:
    def made(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [mutator.mutate(chance, b"some input", [b"other"], [b"word"]) for _ in range(50)]

    assert made(1) == made(1) != made(2)
    assert len(set(made(1))) > 40


# Findings.


def test_a_finding_is_made_small() -> None:
    data = bytes(range(256)) * 4
    small = minimise.minimise(breaks_on_ab, data)
    assert sorted(small) == [ord("a"), ord("b")]
    assert isinstance(minimise.failure_of(breaks_on_ab, small), ValueError)


def test_what_held_too_much_is_made_small_too() -> None:
    assert minimise.minimise(holds_on_a, b"xxxxaxxx") == b"a"


def test_what_breaks_nothing_stays() -> None:
    assert minimise.failure_of(nothing, b"abc") is None
    assert minimise.minimise(nothing, b"abc") == b"abc"


# The runner.


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """What the runner exits with; without atheris, whether it is there or not."""
    monkeypatch.setattr(sys, "argv", ["fuzz/run.py", *words])
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        runner.main()
    return int(ended.value.code or 0)


def test_without_atheris_it_says_so_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--seconds", "0.01", "framing") == 0
    said = capsys.readouterr().out
    assert "atheris is not installed" in said
    assert re.search(r"^framing: [1-9][0-9]* inputs in 0.01 s, no fault$", said, re.MULTILINE)


def test_what_breaks_a_target_is_kept_small_and_can_be_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(corpora, "FINDINGS", tmp_path)
    monkeypatch.setattr(corpora, "run_of", lambda name: breaks_on_ab)
    assert run(monkeypatch, "--plain", "--seconds", "60", "framing") == 1
    (finding,) = (tmp_path / "framing").iterdir()
    assert sorted(finding.read_bytes()) == [ord("a"), ord("b")]
    said = capsys.readouterr().out
    assert f"python fuzz/run.py --replay {finding} framing" in said
    assert "ValueError: found" in said
    monkeypatch.setattr(sys, "argv", ["fuzz/run.py", "--replay", str(finding), "framing"])
    with pytest.raises(ValueError, match="found"):
        runner.main()


def test_targets_are_known_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "nothing") == 2


# Cutting.


@pytest.mark.parametrize("seed", range(16))
def test_chunks_are_the_stream(seed: int) -> None:
    data = bytes(range(256)) * 20
    pieces = list(cutting.chunks(data, seed))
    assert b"".join(pieces) == data
    assert all(pieces)
    assert (len(pieces) == 1) is (seed % 8 == 0)
    assert pieces == list(cutting.chunks(data, seed))


# Corpora.


@pytest.mark.parametrize("name", corpora.TARGETS)
def test_seeds_and_dictionary_are_what_the_encoders_give(name: str) -> None:
    paths = {path.name: path for path in corpora.files(corpora.CORPUS / name)}
    made = seeds.SEEDS[name]()
    assert {path for path in paths if not corpora.is_grown(paths[path])} == made.keys()
    for seed, data in made.items():
        if "deflated" not in seed:  # how it deflates is zlib's choice
            assert paths[seed].read_bytes() == data, "run python fuzz/seeds.py"
    committed = corpora.dictionary_of(name).read_text("ascii")
    assert committed == words.dictionary(name), "run python fuzz/seeds.py"


@pytest.mark.parametrize("name", corpora.TARGETS)
def test_a_target_says_its_invariant_first(name: str) -> None:
    first = (FUZZ / "targets" / f"{name}.py").read_text("utf-8").splitlines()[0]
    assert first.startswith('"""Invariant: ')
    assert first.endswith(".")


def test_words_of_a_dictionary_come_back() -> None:
    words = {b"plain", b'"\\\n\x00\xff', b"\x10\0\0"}
    text = corpora.write_words(words)
    assert text.isascii()
    assert {eval(f"b{line}") for line in text.splitlines()} == words
    assert all(all(corpora.read_words(name)) for name in corpora.TARGETS)


def test_the_corpora_are_small() -> None:
    paths = [path for name in corpora.TARGETS for path in corpora.inputs(name)]
    assert sum(path.stat().st_size for path in paths) < MOST_BYTES
    assert max(path.stat().st_size for path in paths) <= 4096


def test_names_of_modules_are_found_in_paths() -> None:
    assert reach._module("/a/engine/isocenter/engine/pdu.py") == "isocenter.engine.pdu"
    assert reach._module("/a/isocenter/engine/dimse/__init__.py") == "isocenter.engine.dimse"
