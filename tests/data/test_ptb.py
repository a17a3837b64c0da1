from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from epsgrid.data.ptb import Original

from epsgrid.data import ptb
from epsgrid.data._corpus import Corpus, cached, encode, make_corpus
from epsgrid.errors import DataError, SpecError

REAL = Path.home() / ".cache" / "epsgrid" / "data" / "ptb"
needs_ptb = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"Penn Treebank is not in {REAL}; its licence forbids passing it on"
)

TEXTS = {
    "train": " the cat sat \n the dog <unk> N \n",
    "validation": " the dog sat \n",
    "test": " the cat \n N cat \n",
}
NAMES = {"train": "ptb.train.txt", "validation": "ptb.valid.txt", "test": "ptb.test.txt"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"EPSGRID_CACHE": str(tmp_path / "cache")}


def write(folder: Path, prefix: str = "ptb.", **changes: str | None) -> str:
    """Write the three files, `changes` by split; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in {**TEXTS, **changes}.items():
        if text is not None:
            (folder / NAMES[split].replace("ptb.", prefix)).write_bytes(text.encode())
    return str(folder)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take TEXTS for the published files."""
    originals = {
        split: Original(NAMES[split], text.count("\n"), hashlib.md5(text.encode()).hexdigest())
        for split, text in TEXTS.items()
    }
    monkeypatch.setattr(ptb, "FILES", originals)
    monkeypatch.setattr(ptb, "VOCABULARY", 7)


def test_words_get_ids_in_order_of_appearance_and_lines_end_with_eos(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    corpus = ptb.load(write(tmp_path / "own"), checked=False, environment=environment)
    assert corpus.words == ("the", "cat", "sat", "<eos>", "dog", "<unk>", "N")
    assert corpus.train.tolist() == [0, 1, 2, 3, 0, 4, 5, 6, 3]
    assert corpus.validation.tolist() == [0, 4, 2, 3]
    assert corpus.test.tolist() == [0, 1, 3, 6, 1, 3]
    assert corpus.train.dtype == np.uint16
    assert corpus.has_validation
    assert "9 training, 4 validation and 6 test words, vocabulary 7" in corpus.description
    assert f"text in {tmp_path / 'own'} (not checked)" in corpus.description


def test_the_published_files_are_accepted_and_named(
    tmp_path: Path, environment: dict[str, str], published: None
) -> None:
    corpus = ptb.load(write(tmp_path / "own"), environment=environment)
    assert corpus.description.startswith("Penn Treebank: 9 training")


def test_text_is_decoded_once_and_mapped(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "own")
    first = ptb.load(root, checked=False, environment=environment)
    monkeypatch.setattr(ptb, "encode", None)
    again = ptb.load(root, checked=False, environment=environment)
    assert again.checksum == first.checksum
    assert not again.train.flags.writeable


def test_a_changed_file_is_read_again_though_size_and_time_are_the_same(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    root = write(tmp_path / "own")
    before = ptb.load(root, checked=False, environment=environment)
    write(tmp_path / "own", test=TEXTS["test"].replace("N cat", "N dog"))
    after = ptb.load(root, checked=False, environment=environment)
    assert after.checksum != before.checksum
    assert after.test.tolist() == [0, 1, 3, 6, 4, 3]


def test_equal_text_elsewhere_has_the_same_checksum(tmp_path: Path, environment: dict[str, str]) -> None:
    one, other = (
        ptb.load(write(tmp_path / name, prefix), checked=False, environment=environment)
        for name, prefix in (("one", "ptb."), ("other", ""))
    )
    assert one.checksum == other.checksum


def test_places_are_searched_in_order(tmp_path: Path, environment: dict[str, str]) -> None:
    write(tmp_path / "cache" / "data" / "ptb", train="the cat sat <unk> N dog\n")
    assert len(ptb.load(checked=False, environment=environment).train) == 7
    write(tmp_path / "data" / "ptb")
    own = {**environment, "EPSGRID_DATA": str(tmp_path / "data")}
    assert len(ptb.load(checked=False, environment=own).train) == 9


@pytest.mark.parametrize("damage", ["array", "words", "missing", "other shape"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, environment: dict[str, str], damage: str) -> None:
    root = write(tmp_path / "own")
    before = ptb.load(root, checked=False, environment=environment)
    ids = before.train.tolist()  # what is mapped changes with the file
    (folder,) = (tmp_path / "cache" / "arrays").iterdir()
    array, about = folder / "train.npy", folder / "about.json"
    if damage == "array":
        array.write_bytes(array.read_bytes()[:-1] + b"\x01")
    elif damage == "words":
        about.write_text(about.read_text().replace("cat", "cow"))
    elif damage == "missing":
        array.unlink()
    else:
        np.save(array, np.arange(3, dtype=np.uint16))
    after = ptb.load(root, checked=False, environment=environment)
    assert after.checksum == before.checksum
    assert after.words == before.words
    assert after.train.tolist() == ids


def test_a_cache_that_stays_damaged_is_told(tmp_path: Path) -> None:
    corpus = encode({split: text.encode() for split, text in TEXTS.items()}, NAMES)
    wrong = Corpus(corpus.train, corpus.validation, corpus.test, corpus.words, "0" * 64, "")
    with pytest.raises(DataError, match=r"decoded data in .*text-x are damaged; delete that folder"):
        cached(tmp_path / "text-x", lambda: wrong)


def test_a_large_vocabulary_gets_wider_ids() -> None:
    ids = np.arange(70_000)
    corpus = make_corpus({"train": ids, "validation": ids[:2], "test": ids[:2]}, tuple(map(str, ids)))
    assert corpus.train.dtype == np.int32
    assert corpus.train[-1] == 69_999


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
    corpus = encode({split: text.encode() for split, text in TEXTS.items()}, NAMES).described("text")
    part = corpus.first({"train": 4, "validation": None, "test": 2})
    assert part.train.tolist() == [0, 1, 2, 3]
    assert part.validation.tolist() == corpus.validation.tolist()
    assert part.test.tolist() == [0, 1]
    assert part.words == corpus.words
    assert part.checksum == corpus.checksum
    assert part.description.startswith("a subset (the first 4 train, 2 test words) of text: 9 training")
    assert corpus.first({"train": None}) is corpus


def test_more_words_than_there_are_cannot_be_asked_for() -> None:
    corpus = encode({split: text.encode() for split, text in TEXTS.items()}, NAMES)
    with pytest.raises(SpecError, match=r"task\.subset\.test: 1,000 words asked for, there are 6"):
        corpus.first({"train": 2, "test": 1000})


def test_an_empty_line_is_the_end_of_a_sentence() -> None:
    texts = {"train": b"a\n\nb\n", "validation": b"a\n", "test": b"b\n"}
    assert encode(texts, NAMES).train.tolist() == [0, 1, 1, 2, 1]


def test_the_mark_that_windows_puts_in_front_is_no_part_of_a_word() -> None:
    """The first word of such a file was another one, "\\ufeffa"."""
    texts = {"train": b"\xef\xbb\xbfa b\n", "validation": b"\xef\xbb\xbfb\n", "test": b"a\n"}
    assert encode(texts, NAMES).words == ("a", "b", "<eos>")


def test_a_last_line_without_line_feed_counts() -> None:
    texts = {"train": b"a\nb", "validation": b"a", "test": b"b\n"}
    assert encode(texts, NAMES).train.tolist() == [0, 1, 2, 1]


def test_missing_text_is_told_with_the_way_to_get_it(tmp_path: Path, environment: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"Penn Treebank not found.*licence.*put the three files in .*cache/data/ptb"):
        ptb.load(environment=environment)
    with pytest.raises(DataError, match=r"none of ptb\.train\.txt.* in .*/nowhere\."):
        ptb.load(str(tmp_path / "nowhere"), environment=environment)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_missing_split_is_named(tmp_path: Path, environment: dict[str, str], split: str) -> None:
    root = write(tmp_path / "own", **{split: None})
    with pytest.raises(DataError, match=rf"own: {NAMES[split]} missing; training, validation and test text"):
        ptb.load(root, environment=environment)


def test_a_wrong_line_count_is_told(tmp_path: Path, environment: dict[str, str], published: None) -> None:
    root = write(tmp_path / "own", validation="the cat\nthe dog\n")
    with pytest.raises(DataError, match=r"ptb\.valid\.txt: 2 lines, Penn Treebank's has 1; .*checked: false"):
        ptb.load(root, environment=environment)


def test_a_wrong_checksum_is_told(tmp_path: Path, environment: dict[str, str], published: None) -> None:
    root = write(tmp_path / "own", validation="the cat sat\n")
    with pytest.raises(DataError, match=r"ptb\.valid\.txt: wrong checksum, MD5 [0-9a-f]{32}, Penn Treebank's is"):
        ptb.load(root, environment=environment)


def test_windows_line_ends_are_recognised(tmp_path: Path, environment: dict[str, str], published: None) -> None:
    root = write(tmp_path / "own", test=TEXTS["test"].replace("\n", "\r\n"))
    with pytest.raises(DataError, match=r"ptb\.test\.txt: wrong checksum \(it has Windows line ends\)"):
        ptb.load(root, environment=environment)


def test_the_check_comes_before_the_cache(tmp_path: Path, environment: dict[str, str], published: None) -> None:
    root = write(tmp_path / "own", test="the cat\nthe cat\n")
    ptb.load(root, checked=False, environment=environment)
    with pytest.raises(DataError, match="wrong checksum"):
        ptb.load(root, environment=environment)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_file_is_told(tmp_path: Path, environment: dict[str, str], split: str) -> None:
    root = write(tmp_path / "own", **{split: " \n"})
    with pytest.raises(DataError, match=rf"{NAMES[split]} is empty: it must hold text"):
        ptb.load(root, checked=False, environment=environment)


def test_an_empty_file_is_not_the_published_one(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write(tmp_path / "own", train="")
    with pytest.raises(DataError, match=r"ptb\.train\.txt is empty; fetch it again"):
        ptb.load(root, environment=environment)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_unknown_word_is_told_with_its_place(tmp_path: Path, environment: dict[str, str], split: str) -> None:
    root = write(tmp_path / "own", **{split: "the cat\nthe zebra\n"})
    message = rf"{NAMES[split]}:2: the word 'zebra' is not in the vocabulary.*ptb\.train\.txt \(7 words\).*<unk>"
    with pytest.raises(DataError, match=message):
        ptb.load(root, checked=False, environment=environment)


def test_the_word_eos_cannot_stand_in_a_text(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write(tmp_path / "own", train="the cat\nthe <eos> cat\n")
    with pytest.raises(DataError, match=r"ptb\.train\.txt:2: the word <eos> stands for the end of a line"):
        ptb.load(root, checked=False, environment=environment)


def test_text_must_be_utf8(tmp_path: Path, environment: dict[str, str]) -> None:
    root = write(tmp_path / "own")
    (tmp_path / "own" / "ptb.test.txt").write_bytes(b"the cat\n\xff\n")
    with pytest.raises(DataError, match=r"ptb\.test\.txt: not UTF-8 at byte 8"):
        ptb.load(root, checked=False, environment=environment)


def test_an_unreadable_file_is_told(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    root = write(tmp_path / "own")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"cannot read .*ptb\.train\.txt: Permission denied"):
        ptb.load(root, checked=False, environment=environment)


@needs_ptb
def test_the_real_text_has_the_published_sizes(environment: dict[str, str]) -> None:
    corpus = ptb.load(str(REAL), environment=environment)
    assert (len(corpus.train), len(corpus.validation), len(corpus.test)) == (929_589, 73_760, 82_430)
    assert len(corpus.words) == 10_000
    eos = corpus.words.index("<eos>")
    assert [int((corpus.split(split) == eos).sum()) for split in ptb.FILES] == [42_068, 3_370, 3_761]
    start = " ".join(corpus.words[word] for word in corpus.test[:9])
    assert start == "no it was n't black monday <eos> but while"
    assert json.dumps(corpus.words[:3]) == '["aer", "banknote", "berlitz"]'
