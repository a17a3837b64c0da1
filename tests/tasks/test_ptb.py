"""Penn Treebank: where it is looked for, the check against the published files, and its options."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

from epsgrid.data._corpus import Corpus
from epsgrid.errors import DataError, SpecError
from epsgrid.tasks import ptb
from epsgrid.tasks.ptb import _Original

REAL = Path.home() / ".cache" / "epsgrid" / "data" / "ptb"
needs_ptb = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"Penn Treebank is not in {REAL}; its licence forbids passing it on"
)
CPU = torch.device("cpu")

TEXTS = {
    "train": " the cat sat \n the dog <unk> N \n",
    "validation": " the dog sat \n",
    "test": " the cat \n N cat \n",
}
NAMES = {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"}
ORIGINALS = {
    split: _Original(NAMES[split], text.count("\n"), hashlib.md5(text.encode()).hexdigest())
    for split, text in TEXTS.items()
}


def write(folder: Path, prefix: str = "ptb.", **changes: str | None) -> str:
    """Write the three files, `changes` by split; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in {**TEXTS, **changes}.items():
        if text is not None:
            (folder / NAMES[split].replace("ptb.", prefix)).write_bytes(text.encode())
    return str(folder)


def prepare(root: str | None = None, checked: bool = False, **settings: Any) -> Corpus:
    return ptb.prepare(ptb.Options(name="ptb", root=root, checked=checked, **settings))


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take TEXTS for the published files."""
    monkeypatch.setattr(ptb, "_FILES", ORIGINALS)


def test_own_text_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "own")
    first = prepare(root)
    assert first.train.tolist() == [0, 1, 2, 3, 0, 4, 5, 6, 3]
    sizes = "9 training, 4 validation and 6 test words, vocabulary 7"
    assert first.description == f"text in {tmp_path / 'own'} (not checked): {sizes}"
    assert prepare(write(tmp_path / "other", prefix="")).checksum == first.checksum
    with monkeypatch.context() as patch:
        patch.setattr(ptb, "encode", None)
        assert prepare(root).checksum == first.checksum
    write(tmp_path / "own", test=TEXTS["test"].replace("N cat", "N dog"))  # size and time are the same
    after = prepare(root)
    assert after.checksum != first.checksum
    assert after.test.tolist() == [0, 1, 3, 6, 4, 3]


def test_places_are_searched_in_order(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"Penn Treebank not found.*licence.*put the three files in .*cache/data/ptb"):
        prepare()
    with pytest.raises(DataError, match=r"ptb\.train\.txt.* missing in .*/nowhere\."):
        prepare(str(tmp_path / "nowhere"))
    write(cache / "data" / "ptb", train="the cat sat <unk> N dog\n")
    assert len(prepare().train) == 7
    monkeypatch.setenv("EPSGRID_DATA", str(tmp_path / "data"))
    write(tmp_path / "data" / "ptb")
    assert len(prepare().train) == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": None}, r"Penn Treebank not found: ptb\.train\.txt missing in .*own\."),
        ({"validation": "the cat\nthe dog\n"}, r"valid\.txt: 2 lines, Penn Treebank's has 1; .*checked: false"),
        ({"validation": "the cat sat\n"}, r"valid\.txt: wrong checksum, MD5 [0-9a-f]{32}, Penn Treebank's is"),
        ({"test": TEXTS["test"].replace("\n", "\r\n")}, r"test\.txt: wrong checksum \(its line ends were changed\)"),
        ({"train": ""}, r"ptb\.train\.txt: 0 lines, Penn Treebank's has 2; fetch it again"),
    ],
)
def test_files_that_are_not_the_published_ones_are_refused(
    tmp_path: Path, published: None, changes: dict[str, str | None], words: str
) -> None:
    assert prepare(write(tmp_path / "real"), checked=True).description.startswith("Penn Treebank: 9 training")
    root = write(tmp_path / "own", **changes)
    if changes.get("test"):
        prepare(root)  # text in the cache is checked all the same
    with pytest.raises(DataError, match=words):
        prepare(root, checked=True)


def test_a_subset_is_used_and_must_exist(tmp_path: Path) -> None:
    root = write(tmp_path / "own")
    corpus = prepare(root, subset={"train": 8})
    assert corpus.description.startswith("a subset (the first 8 train words) of text in")
    task = ptb.build(ptb.Options(name="ptb"), corpus, CPU)
    assert (task.inputs, task.outputs) == ((), 7)
    with pytest.raises(SpecError, match=r"task\.subset\.train: 99 words asked for, there are 9"):
        prepare(root, subset={"train": 99})


@needs_ptb
def test_the_real_text_has_the_published_sizes_and_about_the_published_steps() -> None:
    """46,479 rows in stretches of 67.75 words on average: 686 ± about 3."""
    corpus = prepare(str(REAL), checked=True)
    assert [len(ids) for ids in corpus.splits.values()] == [929_589, 73_760, 82_430]
    assert len(corpus.words) == 10_000
    assert corpus.words[:3] == ("aer", "banknote", "berlitz")
    eos = corpus.words.index("<eos>")
    assert [int((ids == eos).sum()) for ids in corpus.splits.values()] == [42_068, 3_370, 3_761]
    start = " ".join(corpus.words[word] for word in corpus.test[:9])
    assert start == "no it was n't black monday <eos> but while"
    task = ptb.build(ptb.Options(name="ptb"), corpus, CPU)
    steps = [task.steps_per_epoch(20, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(676 <= count <= 696 for count in steps)
    assert len(set(steps)) > 1
