import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epsgrid.errors import CorruptRecordError, StoreError
from epsgrid.store import atomic

_plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_documents = st.recursive(
    _plain | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(_documents)
def test_readable_json_means_the_same_document(document: Any) -> None:
    assert json.loads(atomic.readable_json(document)) == document


def test_readable_json_breaks_lines_only_where_it_helps() -> None:
    numbers = list(range(100))
    lines = atomic.readable_json({"numbers": numbers, "nested": [{"seed": 1}, {"name": "x" * 120}], "none": {}}).split(
        "\n"
    )
    assert lines[0] == "{"
    assert lines[1] == f'  "numbers": {json.dumps(numbers)},'
    assert lines[2] == '  "nested": ['
    assert lines[3] == '    {"seed": 1},'
    assert lines[-2] == '  "none": {}'


def test_the_seal_does_not_depend_on_the_order_of_keys_even_where_they_are_numbers() -> None:
    assert atomic.seal({"a": 1, "b": (2.0,)})["checksum"] == atomic.seal({"b": [2.0], "a": 1})["checksum"]
    sealed = atomic.seal({"counts": {10: 1, 9: 2}})
    assert atomic.unseal(json.loads(json.dumps(sealed)), "here") == {"counts": {"10": 1, "9": 2}}


def test_a_changed_document_does_not_match_its_seal() -> None:
    sealed = atomic.seal({"loss": 0.25})
    with pytest.raises(
        CorruptRecordError, match=r"result\.json is damaged or was edited: .* does not match its checksum"
    ):
        atomic.unseal({**sealed, "loss": 0.5}, Path("result.json"))
    with pytest.raises(CorruptRecordError, match=r"result\.json is damaged: it has no checksum"):
        atomic.unseal({"loss": 0.25}, Path("result.json"))


def test_writing_makes_folders_replaces_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.json"
    for value in (1, 2):
        atomic.write_json(path, {"value": value})
        assert atomic.read_json(path) == {"value": value}
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic.write_json(path, {"loss": float("nan")})
    assert _names(path.parent) == ["file.json"]
    (tmp_path / "plain").write_text("x")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode, "readable for others"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full: free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only: choose another folder with --out"),
        (errno.EACCES, "permission denied: check who owns the folder"),
        (errno.EPERM, "operation not permitted"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_fails_is_reported_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str
) -> None:
    path = tmp_path / "file.json"
    atomic.write_json(path, {"value": 1})

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(StoreError, match=rf"cannot write .*file\.json: {words}"):
        atomic.write_json(path, {"value": 2})
    assert atomic.read_json(path) == {"value": 1}
    assert _names(tmp_path) == ["file.json"]
    with pytest.raises(StoreError, match=rf"cannot append to .*metrics\.jsonl: {words}"):
        atomic.append_line(tmp_path / "metrics.jsonl", "{}")


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot create the folder .*file/sub"):
        atomic.write_text(tmp_path / "file" / "sub" / "x", "x")


def test_only_the_leftovers_of_one_file_are_removed(tmp_path: Path) -> None:
    for name in (".result.json.0a.tmp", ".checkpoint.pt.0b.tmp", "checkpoint.pt"):
        (tmp_path / name).write_text("x")
    atomic.remove_leftovers(tmp_path / "checkpoint.pt")
    assert _names(tmp_path) == [".result.json.0a.tmp", "checkpoint.pt"]


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    program = (
        "import sys\nfrom pathlib import Path\nfrom epsgrid.store import atomic\nnumber = int(sys.argv[2])\n"
        "while True:\n    number += 1\n"
        "    atomic.write_json(Path(sys.argv[1]), atomic.seal({'number': number, 'bulk': ['x' * 100] * 3000}))\n"
        "    print(number, flush=True)\n"
    )
    told = 0
    for delay_s in (0.0, 0.013, 0.029):
        with subprocess.Popen(
            [sys.executable, "-c", program, path, str(told)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told = int(writer.stdout.readline())
            time.sleep(delay_s)
            writer.send_signal(signal.SIGKILL)
            told = int((writer.stdout.read().split() or [str(told)])[-1])
        assert atomic.unseal(atomic.read_json(path), path)["number"] in (told, told + 1)


def test_reading_says_what_is_wrong_and_where(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    with pytest.raises(StoreError, match=r"cannot read .*file\.json: .*No such file"):
        atomic.read_json(path)
    for content, words in [
        (b'{"loss": 0.5', r"file\.json is damaged: .*line 1 column"),
        (b'{"loss": NaN}', r"file\.json is damaged: NaN is not JSON"),
        (b'{"loss": -Infinity}', r"file\.json is damaged: -Infinity is not JSON"),
        (b'{"name": "\xff"}', r"file\.json is damaged: 'utf-8' codec can't decode byte 0xff in position 10"),
        (b"", r"file\.json is damaged"),
    ]:
        path.write_bytes(content)
        with pytest.raises(CorruptRecordError, match=words):
            atomic.read_json(path)


def values(path: Path) -> list[object]:
    return [json.loads(line) for line in atomic.read_lines(path)]


def test_a_line_cut_anywhere_is_left_out_and_mended_by_the_next(tmp_path: Path) -> None:
    """And what was appended is read back."""
    first, second, third = '{"epoch": 1}', '{"epoch": 2, "name": "ε"}', '{"epoch": 3}'
    whole = f"{first}\n{second}\n".encode()
    path = tmp_path / "sub" / "metrics.jsonl"
    assert values(path) == []
    for line in (first, second):
        atomic.append_line(path, line)
    assert path.read_bytes() == whole
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = [json.loads(line) for line, end in ((first, 13), (second, len(whole))) if cut >= end]
        assert values(path) == complete
        atomic.append_line(path, third)
        assert values(path) == [*complete, json.loads(third)]
        assert path.read_bytes().endswith(b"}\n")


def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def sync_files(descriptor: int) -> None:
        if Path(f"/dev/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", sync_files)
    atomic.write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").read_text() == "x"
