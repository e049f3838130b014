"""ExampleSet: a sequence whose rows live on disk, for exactly as long as someone uses them."""

import dataclasses
import gc
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compresskit.data import demo, reading
from compresskit.data.examples import Example, ExampleSet
from compresskit.data.negatives import with_negatives
from compresskit.data.store import Folder
from compresskit.errors import RunFailed

QUESTIONS = 10_000  # more than one batch of the tables


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    paragraphs = [
        {
            "context": f"word{number} here",
            "qas": [
                {
                    "id": f"q{number}-{i}",
                    "question": f"{i}?",
                    "answers": [{"text": f"word{number}", "answer_start": 0}] if i % 5 else [],
                    "is_impossible": not i % 5,
                }
                for i in range(10)
            ],
        }
        for number in range(QUESTIONS // 10)
    ]
    articles = [{"title": f"t{i}", "paragraphs": paragraphs[i * 100 : i * 100 + 100]} for i in range(10)]
    path = tmp_path_factory.mktemp("set") / "set.json"
    path.write_text(json.dumps({"data": articles}))
    return reading.read(path)


def test_random_access(examples: ExampleSet) -> None:
    assert len(examples) == QUESTIONS
    for index in (0, 1, 4095, 4096, 9999, -1):
        number, i = divmod(index % QUESTIONS, 10)
        example = examples[index]
        assert (example.id, example.context) == (f"q{number}-{i}", f"word{number} here")
        assert (example.paragraph, example.title) == (number, f"t{number // 100}")
        assert example.is_impossible == (i % 5 == 0)
    assert [example.id for example in examples] == [f"q{n}-{i}" for n in range(1000) for i in range(10)]
    for index in (QUESTIONS, -QUESTIONS - 1):
        with pytest.raises(IndexError):
            examples[index]


def test_select_and_its_counts(examples: ExampleSet) -> None:
    chosen = examples.select(np.array([9999, 0, 1, 2500]))
    assert [example.id for example in chosen] == ["q999-9", "q0-0", "q0-1", "q250-0"]
    info = chosen.info
    assert (info.questions, info.unanswerable, info.articles, info.paragraphs) == (4, 2, 3, 3)
    assert (info.path, info.sha256) == (examples.info.path, examples.info.sha256)
    assert chosen.select([2])[0].id == "q0-1"
    assert list(chosen.paragraphs()) == [(0, "word0 here"), (250, "word250 here"), (999, "word999 here")]
    with pytest.raises(IndexError):
        examples.select([QUESTIONS])


def test_sample_is_seeded_and_keeps_the_order(examples: ExampleSet) -> None:
    def ids(found: ExampleSet) -> list[str]:
        return [example.id for example in found]

    sample = ids(examples.sample(100, seed=1))
    assert len(set(sample)) == 100
    assert sample == ids(examples.sample(100, seed=1))
    assert sample != ids(examples.sample(100, seed=2))
    wanted = set(sample)
    assert sample == [id for id in ids(examples) if id in wanted]
    assert ids(examples.sample(QUESTIONS + 1, seed=1)) == ids(examples)
    with pytest.raises(ValueError, match="negative"):
        examples.sample(-1, seed=1)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    """40 paragraphs of 0 to 12 questions; some have none."""
    generator = random.Random(3)
    paragraphs = [
        {
            "context": f"word{number}",
            "qas": [
                {"id": f"{number}-{i}", "question": "?", "answers": [], "is_impossible": True}
                for i in range(generator.randint(0, 12))
            ],
        }
        for number in range(40)
    ]
    path = tmp_path_factory.mktemp("uneven") / "set.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}))
    return reading.read(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 300), seed=st.integers(0, 1000), part=st.integers(1, 3))
def test_a_sample_of_paragraphs_is_whole_and_fits(uneven: ExampleSet, n: int, seed: int, part: int) -> None:
    whole = uneven.select(range(0, len(uneven), part))  # of a part too: whole is what the part has
    sizes = Counter(example.paragraph for example in whole)
    sample = whole.sample_paragraphs(n, seed)
    ids = [example.id for example in sample]
    drawn = {example.paragraph for example in sample}
    assert ids == [example.id for example in whole if example.paragraph in drawn]
    assert ids == [example.id for example in whole.sample_paragraphs(n, seed)]
    assert len(sample) <= n or len(drawn) == 1
    if n >= len(whole):
        assert sample is whole
    else:
        # It is as full as it may be: there is a paragraph, the next one, that would be too much.
        assert len(sample) + max(size for paragraph, size in sizes.items() if paragraph not in drawn) > n
        larger = {example.paragraph for example in whole.sample_paragraphs(n + 10, seed)}
        assert drawn <= larger


def test_samples_of_paragraphs_differ_with_the_seed_and_favour_none(uneven: ExampleSet) -> None:
    drawn = [{example.paragraph for example in uneven.sample_paragraphs(60, seed)} for seed in range(300)]
    assert len(set(map(frozenset, drawn))) > 290
    counts = Counter(paragraph for one in drawn for paragraph in one)
    expected = sum(map(len, drawn)) / len({example.paragraph for example in uneven})
    # Each paragraph is drawn about as often as any other: within five standard deviations of a binomial count.
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in counts.values())
    assert set(counts) == {example.paragraph for example in uneven}
    with pytest.raises(ValueError, match="negative"):
        uneven.sample_paragraphs(-1, seed=1)


def _one_question(tmp_path: Path) -> ExampleSet:
    path = tmp_path / "one.json"
    qas = [{"id": "a", "question": "?", "answers": [], "is_impossible": True}]
    path.write_text(json.dumps({"data": [{"title": "", "paragraphs": [{"context": "x", "qas": qas}]}]}))
    return reading.read(path)


def test_the_files_go_with_the_last_set(tmp_path: Path) -> None:
    whole = _one_question(tmp_path)
    folder = whole.store.folders[0].path
    part = whole.select([0])
    del whole
    gc.collect()
    assert folder.is_dir()
    assert part[0] == Example("a", "", "?", "x", (), True, 0)
    del part
    gc.collect()
    assert not folder.exists()


READ = """
import dataclasses, json, sys
from compresskit.data.examples import ExampleFiles, ExampleSet
found = ExampleSet.opened(ExampleFiles.from_dict(json.loads(sys.stdin.read())))
loaded = [name for name in ("ijson", "datasets", "torch") if name in sys.modules]
print(json.dumps([dataclasses.asdict(found.info), list(map(dataclasses.asdict, found)), loaded]))
"""


def opened_elsewhere(whole: ExampleSet) -> list[object]:
    """What another process finds in a set that is handed to it: info, examples, and what it needed for that."""
    files = json.dumps(dataclasses.asdict(whole.files()))
    said = subprocess.run([sys.executable, "-c", READ], check=True, input=files, stdout=subprocess.PIPE, text=True)
    found: list[object] = json.loads(said.stdout)
    return found


def as_json(whole: ExampleSet) -> list[object]:
    told = [dataclasses.asdict(whole.info), list(map(dataclasses.asdict, whole)), []]
    found: list[object] = json.loads(json.dumps(told))
    return found


def test_another_process_opens_what_this_one_has_read(examples: ExampleSet) -> None:
    for chosen in (examples, examples.select([9999, 0, 4096]), examples.select([])):
        assert opened_elsewhere(chosen) == as_json(chosen)


def test_questions_of_several_tables_are_opened_together(tmp_path: Path) -> None:
    path, _ = demo.write(tmp_path, demo.DemoConfig(train_questions=60, eval_questions=10))
    read = reading.read(path)
    extended = with_negatives(with_negatives(read, 0.5, seed=1).select(range(5, len(read) + 3)), 0.5, seed=2)
    assert len(extended.store.folders) == 3
    assert opened_elsewhere(extended) == as_json(extended)
    again = ExampleSet.opened(extended.files())
    assert list(ExampleSet.opened(again.files())) == list(extended)  # handed on


def test_what_is_opened_leaves_the_files(tmp_path: Path) -> None:
    whole = _one_question(tmp_path)
    folder = whole.store.folders[0].path
    opened = ExampleSet.opened(whole.files())
    assert opened[0] == whole[0]
    del opened
    gc.collect()
    assert folder.is_dir()
    del whole
    gc.collect()
    assert not folder.exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_forked_worker_leaves_the_files(tmp_path: Path) -> None:
    folder = Folder()
    pid = os.fork()
    if not pid:
        del folder
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert folder.path.is_dir()


FULL = """
import resource, sys
from pathlib import Path
from compresskit.data import reading
from compresskit.errors import RunFailed
data = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # what is written beyond fails
try:
    reading.read(data)
except RunFailed as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on file sizes is not everywhere")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    train, _ = demo.write(tmp_path)
    command = [sys.executable, "-c", FULL, str(train)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.count("\n") == 1
    assert "cannot write temporary data in" in said
    assert "TMPDIR" in said


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(RunFailed, match="cannot write temporary data in /nowhere/at/all: No such file"):
        Folder()
