"""Parallel text: byte-pair encoding, reading a folder, caching, toy text, and all that can be wrong with a folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from epsgrid.data import _parallel
from epsgrid.data._parallel import (
    _SPECIAL,
    END,
    PAD,
    UNKNOWN,
    ParallelCorpus,
    Sentences,
    _train_bpe,
    join,
)
from epsgrid.errors import DataError, ExecutionError, SpecError
from epsgrid.tasks import synthetic_translation, translation

TEXT = {
    "train.de": ["das haus ist alt .", "das alte haus .", "ein haus und ein baum .", "der baum ist alt ."],
    "train.en": ["the house is old .", "the old house .", "a house and a tree .", "the tree is old ."],
    "valid.de": ["das ist ein baum .", "ein altes haus ."],
    "valid.en": ["this is a tree .", "an old house &quot; q &quot; ."],
    "test.de": ["der alte baum ."],
    "test.en": ["the old tree ."],
}


def write(folder: Path, **changed: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in TEXT.items():
        text = "".join(f"{line}\n" for line in changed.get(name.replace(".", "_"), lines))
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def load(folder: Path | str | None, **settings: Any) -> ParallelCorpus:
    options = {"root": None if folder is None else str(folder), "vocabulary": 60, **settings}
    return translation.prepare(translation.Options(name="translation", **options))


def generated(**settings: Any) -> synthetic_translation.Options:
    return synthetic_translation.Options(name="synthetic_translation", **settings)


def decode(sentences: Sentences, pieces: tuple[str, ...]) -> list[str]:
    return [join([pieces[token] for token in sentences[row]]) for row in range(len(sentences))]


def test_pieces_joined_are_the_line() -> None:
    lines = ["ah , ½ ﬁ &quot; été &quot;", "x 10.000 --", "wort ẞ É ²"]
    processor = _train_bpe(lines, 50)
    assert processor.get_piece_size() == 50
    assert [join([processor.id_to_piece(index) for index in ids]) for ids in processor.encode(lines)] == lines


def test_a_vocabulary_the_text_cannot_give_is_refused() -> None:
    with pytest.raises(SpecError, match=r"task\.vocabulary: 1,000 pieces cannot be learnt .* set it to a value <= 13"):
        _train_bpe(["ab bc", "bc d"], 1000)
    with pytest.raises(SpecError, match=r"task\.vocabulary: 3 pieces cannot be learnt .*smaller than .*3 vs 5"):
        _train_bpe(["a b c"], 3)


def test_without_sentencepiece_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ExecutionError, match=r"sentencepiece is needed here .*`pip install 'epsgrid\[translation\]'"):
        load(write(tmp_path / "text"))


def test_a_folder_is_encoded_with_a_dictionary_for_each_language(tmp_path: Path) -> None:
    corpus = load(write(tmp_path / "mine"))
    assert [len(pairs) for pairs in corpus.splits.values()] == [4, 2, 1]
    assert corpus.has_validation
    assert corpus.source_pieces[: len(_SPECIAL)] == corpus.target_pieces[: len(_SPECIAL)] == _SPECIAL
    assert (_SPECIAL[PAD], _SPECIAL[END], _SPECIAL[UNKNOWN]) == ("<pad>", "</s>", "<unk>")
    for side, pieces, lines in (
        (corpus.train.source, corpus.source_pieces, TEXT["train.de"]),
        (corpus.train.target, corpus.target_pieces, TEXT["train.en"]),
    ):
        assert decode(side, pieces) == lines
        assert set(side.tokens.tolist()) == set(range(len(_SPECIAL), len(pieces)))
        assert side.lengths.tolist() == [len(side[row]) + 1 for row in range(4)], "lengths count the end"
        assert side.longest == side.lengths.max()
    assert corpus.test.reference_lines() == TEXT["test.en"]
    assert corpus.validation.reference_lines() == TEXT["valid.en"]
    assert corpus.train.reference_lines() == []
    assert UNKNOWN in corpus.validation.target.tokens  # the q is in no training text
    assert corpus.description == (
        "mine, de → en: 4 training, 2 validation and 1 test pairs; joint BPE of 60 pieces,"
        f" dictionaries of {len(corpus.source_pieces)} and {len(corpus.target_pieces)}"
    )


def test_the_second_load_maps_what_the_first_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "text")
    first = load(folder)
    monkeypatch.setattr(_parallel, "_train_bpe", lambda *_: pytest.fail("encoded again"))
    again = load(folder)
    assert again.checksum == first.checksum
    assert again.source_pieces == first.source_pieces
    monkeypatch.undo()
    monkeypatch.setattr(_parallel, "COUNTS", (4, 2, 1))
    assert load(folder, vocabulary=61).description.startswith("IWSLT14, de → en: 4 training")
    assert not again.train.source.tokens.flags.writeable


def test_the_checksum_is_of_the_text_not_of_the_place(tmp_path: Path) -> None:
    first = load(write(tmp_path / "one"))
    assert load(write(tmp_path / "two")).checksum == first.checksum
    changed = load(write(tmp_path / "three", test_en=["the old house ."]))
    assert changed.checksum != first.checksum
    write(tmp_path / "one", test_en=["an old tree ."])
    assert load(tmp_path / "one").test.reference_lines() == ["an old tree ."], "a changed file is encoded again"


def test_lines_lose_spaces_at_their_ends_and_separators_inside_end_none(tmp_path: Path) -> None:
    folder = write(tmp_path / "text")
    (folder / "test.en").write_bytes("the\u2028old tree . \r\n".encode())
    assert load(folder).test.reference_lines() == ["the\u2028old tree ."]
    (folder / "test.en").write_bytes(b"\xef\xbb\xbfthe tree\n")
    assert load(folder).test.reference_lines() == ["the tree"]


def test_the_same_text_with_the_line_ends_of_any_system_is_the_same_data(tmp_path: Path) -> None:
    made = []
    for name, end in (("unix", b"\n"), ("windows", b"\r\n"), ("mac", b"\r")):
        folder = write(tmp_path / name)
        for file in folder.iterdir():
            file.write_bytes(file.read_bytes().replace(b"\n", end))
        made.append(load(folder))
    assert len({each.checksum for each in made}) == 1
    assert [len(each.train) for each in made] == [len(made[0].train)] * 3


def test_a_smaller_subset_is_part_of_a_larger_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "text")
    whole, two, three = (load(folder, subset=counts) for counts in ({}, {"train": 2}, {"train": 3}))
    lines = [decode(corpus.train.source, corpus.source_pieces) for corpus in (two, three, whole)]
    assert [len(some) for some in lines] == [2, 3, 4]
    assert [line for line in lines[1] if line in lines[0]] == lines[0]
    assert [line for line in lines[2] if line in lines[1]] == lines[1]
    with pytest.raises(SpecError, match=r"task\.subset\.train: 5 pairs asked for, there are 4"):
        load(folder, subset={"train": 5})
    assert two.description.startswith("a subset of text, de → en: 2 of 4 training, 2 validation and 1 test pairs")


def test_a_root_may_be_a_name_among_the_data_folders(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"no parallel text: none of .*nowhere.*cache/data/nowhere\. Put tokenised"):
        load("nowhere")
    with pytest.raises(DataError, match=r"cache/data/iwslt14-de-en\. .* name another folder in task\.root"):
        load(None)
    monkeypatch.setenv("EPSGRID_DATA", str(tmp_path / "data"))
    write(tmp_path / "data" / "mine")
    write(cache / "data" / "iwslt14-de-en")
    assert load("mine").description.startswith("mine")
    assert load(None).description.startswith("iwslt14-de-en")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (
            "valid.en",
            None,
            r"valid\.en cannot be read \(No such file.*\); a folder of parallel text .* task\.source and",
        ),
        ("test.de", b"eins\nzwei\n", r"test\.de has 2 lines and .*test\.en 1; they must have the same number"),
        ("train.en", b"a\nb\n \n\n", r"train\.en:3: an empty line \(2 in this file\); remove it here and its counter"),
        ("test.en", b"", r"test\.en: an empty file"),
        ("test.de", "ein haus\nein bäumchen\n".encode("latin-1"), r"test\.de:2: not UTF-8 .* convert the file"),
    ],
)
def test_damaged_folders_are_errors(tmp_path: Path, file: str, content: bytes | None, words: str) -> None:
    place = write(tmp_path / "text") / file
    place.unlink()
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "text")


def test_generated_text_is_called_so_and_is_the_same_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpora = []
    for seed, cache in ((3, "a"), (3, "b"), (4, "a")):
        monkeypatch.setenv("EPSGRID_CACHE", str(tmp_path / cache))
        options = generated(train=200, validation=20, test=30, data_seed=seed, vocabulary=200)
        corpora.append(synthetic_translation.prepare(options))
    assert corpora[0].checksum == corpora[1].checksum != corpora[2].checksum
    assert corpora[0].description.startswith("GENERATED toy languages (no real data), source → target: 200 training")
    assert [len(pairs) for pairs in corpora[0].splits.values()] == [200, 20, 30]
