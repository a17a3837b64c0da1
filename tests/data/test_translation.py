"""Parallel text: reading, encoding, caching, generated text, and everything that can be wrong with a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from epsgrid.data.translation import Encoding

from epsgrid.data import _bpe, _toy_language, translation
from epsgrid.data._parallel import END, PAD, SPECIAL, UNKNOWN, ParallelCorpus, Sentences
from epsgrid.errors import DataError, ExecutionError, SpecError

SMALL = Encoding(vocabulary=60, joined=False)
NO_SUBSET: Mapping[str, int | None] = {}

TEXT = {
    "train.de": ["das haus ist alt .", "das alte haus .", "ein haus und ein baum .", "der baum ist alt ."],
    "train.en": ["the house is old .", "the old house .", "a house and a tree .", "the tree is old ."],
    "valid.de": ["das ist ein baum .", "ein altes haus ."],
    "valid.en": ["this is a tree .", "an old house &quot; q &quot; ."],
    "test.de": ["der alte baum ."],
    "test.en": ["the old tree ."],
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"EPSGRID_CACHE": str(tmp_path / "cache")}


def write(folder: Path, **changed: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in TEXT.items():
        text = "".join(f"{line}\n" for line in changed.get(name.replace(".", "_"), lines))
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def load(folder: Path, environment: Mapping[str, str], encoding: Encoding = SMALL, **counts: int) -> ParallelCorpus:
    return translation.load(str(folder), ("de", "en"), encoding, counts, environment)


def decode(sentences: Sentences, pieces: tuple[str, ...]) -> list[str]:
    bounds = zip(sentences.offsets[:-1], sentences.offsets[1:], strict=True)
    return [_bpe.join([pieces[token] for token in sentences.tokens[a:b]]) for a, b in bounds]


# ---------------------------------------------------------------------------------------------------------------------
# Byte-pair encoding


def test_two_trainings_give_the_same_model_in_any_process() -> None:
    text = _toy_language.generate(300, 1, 1, seed=0)[0]
    lines = [*text.source, *text.target]
    program = (
        "import sys, hashlib; from epsgrid.data import _bpe\n"
        "print(hashlib.sha256(_bpe.train_bpe(sys.stdin.read().splitlines(), 400)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert _bpe.train_bpe(lines, 400) == _bpe.train_bpe(lines, 400)


def test_pieces_joined_are_the_line() -> None:
    lines = ["ah , ½ ﬁ &quot; été &quot;", "x 10.000 --", "wort ẞ É ²"]
    model = _bpe.train_bpe(lines, 50)
    pieces = _bpe.pieces(model)
    assert len(pieces) == 50
    assert [_bpe.join([pieces[index] for index in ids]) for ids in _bpe.encode(model, lines)] == lines


def test_characters_not_in_the_training_text_are_unknown() -> None:
    model = _bpe.train_bpe(["a b c ab bc"], 8)
    assert _bpe.UNKNOWN in _bpe.encode(model, ["aża"])[0]


def test_a_vocabulary_the_text_cannot_give_is_refused() -> None:
    with pytest.raises(SpecError, match=r"task\.vocabulary: 1,000 pieces cannot be learnt .* at most 13, or give more"):
        _bpe.train_bpe(["ab bc", "bc d"], 1000)
    with pytest.raises(SpecError, match=r"task\.vocabulary: 3 pieces are fewer than the text has .* at least 5"):
        _bpe.train_bpe(["a b c"], 3)
    assert len(_bpe.pieces(_bpe.train_bpe(["a b c"], 5))) == 5
    with pytest.raises(SpecError, match=r"task\.vocabulary: 0 pieces could not be learnt from the training text: "):
        _bpe.train_bpe(["a b c"], 0)


def test_without_sentencepiece_the_extra_is_named(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ExecutionError, match=r"sentencepiece is needed .* pip install 'epsgrid\[translation\]'"):
        load(write(tmp_path / "text"), environment)


# ---------------------------------------------------------------------------------------------------------------------
# A folder of text


def test_a_folder_is_encoded_with_a_dictionary_for_each_language(tmp_path: Path, environment: dict[str, str]) -> None:
    corpus = load(write(tmp_path / "mine"), environment)
    assert [len(pairs) for pairs in corpus.splits.values()] == [4, 2, 1]
    assert corpus.has_validation
    assert corpus.source_pieces[: len(SPECIAL)] == corpus.target_pieces[: len(SPECIAL)] == SPECIAL
    assert (SPECIAL[PAD], SPECIAL[END], SPECIAL[UNKNOWN]) == ("<pad>", "</s>", "<unk>")
    for side, pieces, lines in (
        (corpus.train.source, corpus.source_pieces, TEXT["train.de"]),
        (corpus.train.target, corpus.target_pieces, TEXT["train.en"]),
    ):
        assert decode(side, pieces) == lines
        assert set(side.tokens.tolist()) == set(range(len(SPECIAL), len(pieces)))
    assert corpus.test.reference_lines() == TEXT["test.en"]
    assert corpus.validation.reference_lines() == TEXT["valid.en"]
    assert corpus.train.reference_lines() == []
    assert UNKNOWN in corpus.validation.target.tokens  # the q is in no training text
    assert corpus.description == (
        "mine, de → en: 4 training, 2 validation and 1 test pairs; joint BPE of 60 pieces,"
        f" dictionaries of {len(corpus.source_pieces)} and {len(corpus.target_pieces)}"
    )


def test_lengths_count_the_end(tmp_path: Path, environment: dict[str, str]) -> None:
    target = load(write(tmp_path / "text"), environment).train.target
    assert target.lengths.tolist() == [1 + b - a for a, b in zip(target.offsets[:-1], target.offsets[1:], strict=True)]
    assert target.longest == target.lengths.max()


def test_a_joined_dictionary_is_one(tmp_path: Path, environment: dict[str, str]) -> None:
    corpus = load(write(tmp_path / "text"), environment, Encoding(vocabulary=60, joined=True))
    assert corpus.source_pieces == corpus.target_pieces
    assert decode(corpus.train.source, corpus.target_pieces) == TEXT["train.de"]
    assert f"one dictionary of {len(corpus.source_pieces)}" in corpus.description


def test_the_second_load_maps_what_the_first_encoded(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "text")
    first = load(folder, environment)
    monkeypatch.setattr(_bpe, "train_bpe", lambda *_: pytest.fail("encoded again"))
    again = load(folder, environment)
    assert again.checksum == first.checksum
    assert again.bpe == first.bpe
    assert again.source_pieces == first.source_pieces
    assert again.languages == ("de", "en")
    assert not again.train.source.tokens.flags.writeable


def test_the_checksum_is_of_the_text_not_of_the_place(tmp_path: Path, environment: dict[str, str]) -> None:
    first = load(write(tmp_path / "one"), environment)
    assert load(write(tmp_path / "two"), environment).checksum == first.checksum
    changed = load(write(tmp_path / "three", test_en=["the old house ."]), environment)
    assert changed.checksum != first.checksum


def test_a_changed_file_is_encoded_again(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = write(tmp_path / "text")
    load(folder, environment)
    write(folder, test_en=["an old tree ."])
    assert load(folder, environment).test.reference_lines() == ["an old tree ."]


@pytest.mark.parametrize("damage", ["train_source.npy", "about.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, environment: dict[str, str], damage: str) -> None:
    folder = write(tmp_path / "text")
    first = load(folder, environment)
    (path,) = (tmp_path / "cache").glob(f"arrays/*/{damage}")
    path.write_bytes(path.read_bytes()[:-9])
    assert load(folder, environment).checksum == first.checksum


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write prepared data into .*EPSGRID_CACHE"):
        load(write(tmp_path / "text"), {"EPSGRID_CACHE": str(tmp_path / "file")})


def test_lines_end_at_newlines_only_and_lose_spaces_at_their_ends(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = write(tmp_path / "text")
    (folder / "test.en").write_bytes("the\u2028old tree . \r\n".encode())
    assert load(folder, environment).test.reference_lines() == ["the\u2028old tree ."]
    (folder / "test.en").write_bytes(b"\xef\xbb\xbfthe tree\n")
    assert load(folder, environment).test.reference_lines() == ["the tree"]


def test_a_smaller_subset_is_part_of_a_larger_one(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = write(tmp_path / "text")
    whole, two, three = (load(folder, environment, **counts) for counts in ({}, {"train": 2}, {"train": 3}))
    lines = [decode(corpus.train.source, corpus.source_pieces) for corpus in (two, three, whole)]
    assert [len(some) for some in lines] == [2, 3, 4]
    assert [line for line in lines[1] if line in lines[0]] == lines[0]
    assert [line for line in lines[2] if line in lines[1]] == lines[1]
    assert two.description.startswith("a subset of text, de → en: 2 of 4 training, 2 validation and 1 test pairs")


def test_the_official_corpus_is_called_by_its_name(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translation, "COUNTS", (4, 2, 1))
    assert load(write(tmp_path / "text"), environment).description.startswith("IWSLT14, de → en: 4 training")


def test_a_root_may_be_a_name_among_the_data_folders(tmp_path: Path) -> None:
    environment = {"EPSGRID_CACHE": str(tmp_path / "cache"), "EPSGRID_DATA": str(tmp_path / "data")}
    write(tmp_path / "data" / "mine")
    write(tmp_path / "cache" / "data" / "iwslt14-de-en")
    assert translation.load("mine", ("de", "en"), SMALL, NO_SUBSET, environment).description.startswith("mine")
    assert translation.load(None, ("de", "en"), SMALL, NO_SUBSET, environment).description.startswith("iwslt14-de-en")


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"no parallel text: none of .*nowhere.*cache/data/nowhere\. Put tokenised"):
        translation.load("nowhere", ("de", "en"), SMALL, NO_SUBSET, environment)
    with pytest.raises(DataError, match=r"cache/data/iwslt14-de-en\. .* name another folder in task\.root"):
        translation.load(None, ("de", "en"), SMALL, NO_SUBSET, environment)


def _missing(folder: Path) -> None:
    (folder / "valid.en").unlink()


def _a_folder_for_a_file(folder: Path) -> None:
    _missing(folder)
    (folder / "valid.en").mkdir()


def _unequal(folder: Path) -> None:
    write(folder, test_de=["eins", "zwei"])


def _empty_line(folder: Path) -> None:
    write(folder, train_en=["the house is old .", "the old house .", " ", ""])


def _empty_file(folder: Path) -> None:
    (folder / "test.en").write_bytes(b"")


def _not_utf8(folder: Path) -> None:
    (folder / "test.de").write_bytes("ein haus\nein bäumchen\n".encode("latin-1"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_missing, r"text: no file valid\.en; a folder of parallel text holds .* task\.source and task\.target"),
        (_a_folder_for_a_file, r"valid\.en cannot be read"),
        (_unequal, r"test\.de has 2 lines and .*test\.en 1; they must have as many"),
        (_empty_line, r"train\.en:3: an empty line \(2 in this file\); remove it here and its counterpart"),
        (_empty_file, r"test\.en: an empty file"),
        (_not_utf8, r"test\.de:2: not UTF-8 .* convert the file"),
    ],
)
def test_damaged_folders_are_told(tmp_path: Path, environment: dict[str, str], damage: Any, message: str) -> None:
    folder = write(tmp_path / "text")
    damage(folder)
    with pytest.raises(DataError, match=message):
        load(folder, environment)


def test_a_subset_larger_than_the_whole_is_refused(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(SpecError, match=r"task\.subset\.train: 5 pairs asked for, there are 4"):
        load(write(tmp_path / "text"), environment, train=5)


# ---------------------------------------------------------------------------------------------------------------------
# Generated text


def test_generated_text_is_called_so_and_is_the_same_every_time(tmp_path: Path) -> None:
    corpora = [
        translation.generate((200, 20, 30), seed, Encoding(200, False), {"EPSGRID_CACHE": str(tmp_path / cache)})
        for seed, cache in ((3, "a"), (3, "b"), (4, "a"))
    ]
    assert corpora[0].checksum == corpora[1].checksum != corpora[2].checksum
    assert corpora[0].description.startswith("GENERATED toy languages (no real data), source → target: 200 training")
    assert [len(pairs) for pairs in corpora[0].splits.values()] == [200, 20, 30]


def test_toy_sentences_translate_word_by_word_in_another_order() -> None:
    train, validation, test = _toy_language.generate(400, 20, 20, seed=1)
    assert len(set(train.source)) > 390
    assert not set(train.source) & {*validation.source, *test.source}
    orders = set()
    for source, target in zip(train.source, train.target, strict=True):
        assert len(source.split()) == len(target.split())
        orders.add((source.split()[-1], target.split()[-1]))
    assert orders == {(".", ".")}
    source, target = train.source[0].split(), train.target[0].split()
    assert source != target and len(source) >= 6


# ---------------------------------------------------------------------------------------------------------------------
# Real text, where it is at hand


def test_the_subset_of_iwslt14_is_encoded_without_loss_and_alike_every_time(environment: dict[str, str]) -> None:
    from epsgrid.data._places import data_folders

    folder = next((place / "iwslt14-subset" for place in data_folders(os.environ)), None)
    if folder is None or not folder.is_dir():
        pytest.skip("the subset of IWSLT14 is not on this machine")
    corpus = translation.load(str(folder), ("de", "en"), Encoding(10_000, False), NO_SUBSET, environment)
    assert [len(pairs) for pairs in corpus.splits.values()] == [8_627, 7_283, 6_750]
    german, english = (
        (folder / f"train.{language}").read_text(encoding="utf-8").splitlines() for language in ("de", "en")
    )
    assert decode(corpus.train.source, corpus.source_pieces) == german
    assert np.mean(corpus.test.target.tokens == UNKNOWN) < 1e-2
    assert _bpe.train_bpe(german + english, 10_000) == corpus.bpe
