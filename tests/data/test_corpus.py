"""Text as word ids: encoding, checksum, subsets, the cache, and what can be wrong with a text."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest

from epsgrid.data._corpus import cached_corpus, encode, make_corpus
from epsgrid.errors import DataError, SpecError

TEXTS = {
    "train": b" the cat sat \n the dog <unk> N \n",
    "validation": b" the dog sat \n",
    "test": b" the cat \n N cat \n",
}
NAMES = {"train": "train.txt", "validation": "valid.txt", "test": "test.txt"}


def test_words_get_ids_in_order_of_appearance_and_lines_end_with_eos() -> None:
    corpus = encode(TEXTS, NAMES)
    assert corpus.words == ("the", "cat", "sat", "<eos>", "dog", "<unk>", "N")
    assert corpus.train.tolist() == [0, 1, 2, 3, 0, 4, 5, 6, 3]
    assert corpus.validation.tolist() == [0, 4, 2, 3]
    assert corpus.test.tolist() == [0, 1, 3, 6, 1, 3]
    assert corpus.train.dtype == np.uint16
    assert corpus.has_validation


@pytest.mark.parametrize(
    ("train", "ids"),
    [
        (b"a\n\nb\n", [0, 1, 1, 2, 1]),  # an empty line is the end of a sentence
        (b"a\nb", [0, 1, 2, 1]),  # a last line without line feed counts
        (b"\xef\xbb\xbfa b\n", [0, 1, 2]),  # the byte order mark was part of the first word
        (b"a\rb\r", [0, 1, 2, 1]),  # as old Macs end lines
        (b"a\r\nb\na\r\n", [0, 1, 2, 1, 0, 1]),
        ("a\u2028b\x85a\n".encode(), [0, 1, 0, 2]),  # nothing else ends a line
    ],
)
def test_lines(train: bytes, ids: list[int]) -> None:
    assert encode({"train": train, "validation": b"\xef\xbb\xbfa\n", "test": b"b"}, NAMES).train.tolist() == ids


def test_the_checksum_depends_on_ids_words_and_where_splits_end() -> None:
    ids, words = np.array([0, 1, 0, 1, 0, 1]), ("a", "b")
    splits = {"train": ids[:2], "validation": ids[2:4], "test": ids[4:]}
    base = make_corpus(splits, words)
    assert make_corpus(dict(splits), words).checksum == base.checksum
    others = [
        make_corpus({**splits, "test": ids[:3]}, words),
        make_corpus({"train": ids[:4], "validation": ids[4:5], "test": ids[5:]}, words),
        make_corpus(splits, ("a", "c")),
    ]
    assert len({base.checksum, *(other.checksum for other in others)}) == 4


def test_a_subset_is_the_beginning_and_says_so() -> None:
    corpus = encode(TEXTS, NAMES).described("text")
    part = corpus.first({"train": 4, "validation": None, "test": 2})
    assert part.train.tolist() == [0, 1, 2, 3]
    assert part.validation.tolist() == corpus.validation.tolist()
    assert part.test.tolist() == [0, 1]
    assert (part.words, part.checksum) == (corpus.words, corpus.checksum)
    assert part.description == (
        "a subset (the first 4 train, 2 test words) of text: 9 training, 4 validation and 6 test words, vocabulary 7"
    )
    assert corpus.first({"train": None}) is corpus
    with pytest.raises(SpecError, match=r"task\.subset\.test: 1,000 words asked for, there are 6"):
        corpus.first({"train": 2, "test": 1000})


@pytest.mark.parametrize(
    ("split", "text", "words"),
    [
        *((split, b" \n", rf"{NAMES[split]}: an empty file; it must hold text") for split in NAMES),
        (
            "validation",
            b"the cat\nthe zebra\n",
            r"valid\.txt:2: the word 'zebra' is not .*train\.txt \(7 words\).*<unk>",
        ),
        ("train", b"the cat\nthe <eos> cat\n", r"train\.txt:2: the word <eos> stands for the end of a line"),
        ("test", b"the cat\n\xff\n", r"test\.txt:2: not UTF-8 .*convert the file"),
        ("test", b"the cat\r\xff\r", r"test\.txt:2: not UTF-8 .*convert the file"),
        ("train", b"the cat\nthe\rdog\n", r"train\.txt:2: a carriage return, where lines end by line feeds"),
        ("train", b"the cat\rthe dog\nthe\n", r"train\.txt:1: a carriage return"),
        ("train", b"the cat\nthe\0dog\n", r"train\.txt:2: a zero byte"),
        ("train", "the cat\n".encode("utf-16"), r"train\.txt: text in UTF-16 or UTF-32"),
        ("train", "the cat\n".encode("utf-16-le"), r"train\.txt:1: a zero byte"),
        ("validation", gzip.compress(b"the cat\n", mtime=0), r"valid\.txt: compressed by gzip"),
    ],
)
def test_text_that_cannot_be_used_is_an_error(split: str, text: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        encode({**TEXTS, split: text}, NAMES)


@pytest.mark.parametrize("damage", ["array", "words"])
def test_a_cached_corpus_that_does_not_match_its_checksum_is_made_again(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "text-x"
    before = cached_corpus(folder, lambda: encode(TEXTS, NAMES))
    ids = before.train.tolist()  # mapped: it changes with the file
    assert not before.train.flags.writeable
    array, about = folder / "train.npy", folder / "about.json"
    if damage == "array":
        array.write_bytes(array.read_bytes()[:-1] + b"\x01")
    else:
        about.write_text(about.read_text().replace("cat", "cow"))
    after = cached_corpus(folder, lambda: encode(TEXTS, NAMES))
    assert (after.checksum, after.words, after.train.tolist()) == (before.checksum, before.words, ids)


def test_a_cached_corpus_that_stays_damaged_is_an_error(tmp_path: Path) -> None:
    wrong = dataclasses.replace(encode(TEXTS, NAMES), checksum="0" * 64)
    with pytest.raises(DataError, match=r"decoded data in .*text-x are damaged; delete that folder"):
        cached_corpus(tmp_path / "text-x", lambda: wrong)
