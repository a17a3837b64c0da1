"""`epsgrid data list|fetch|check`, as a user types them; no test leaves this machine."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from epsgrid.cli.progress import progress_shown
from epsgrid.tasks.ptb import _FILES, _MIRROR
from tests.cli.conftest import Shell

REAL = Path.home() / ".cache" / "epsgrid" / "data"
needs_ptb = pytest.mark.skipif(not (REAL / "ptb").is_dir(), reason=f"Penn Treebank is not in {REAL}")
OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}
"""Every connection goes to a port of this machine where nobody listens."""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, has_own_cache=True)


def test_list_tells_what_is_here(shell: Shell) -> None:
    place = shell.folder / "own" / "ptb"
    place.mkdir(parents=True)
    (place / "train.txt").write_text("")
    listed = shell.call("data", "list", EPSGRID_DATA=str(shell.folder / "own"))
    header, *rows = listed.stdout.splitlines()
    assert header.split() == ["data", "set", "tasks", "size", "here", "licence"]
    assert [row.split()[0] for row in rows] == ["cifar10", "iwslt14", "ptb"]
    assert str(place) in rows[2]
    assert "forbids passing it on" in rows[2]
    assert "Next: epsgrid data fetch cifar10" in listed.stderr
    assert "Decoded before" not in listed.stderr
    arrays = shell.folder / "cache" / "arrays" / "images-0"
    arrays.mkdir(parents=True)
    (arrays / "train_pixels.npy").write_bytes(bytes(2_400_000))
    assert f"Decoded before: 2 MB in {arrays.parent}; delete it" in shell.call("data", "list").stderr.replace("\n", " ")
    document = shell.json("data", "list")
    assert document["decoded"] == {"place": str(arrays.parent), "bytes": 2_400_000}
    assert document["version"] == 1
    assert document["data"]["ptb"]["place"] is None
    assert document["data"]["ptb"]["files"][0] == {"url": f"{_MIRROR}/ptb.train.txt", "md5": _FILES["train"].md5}


def test_without_a_network_fetch_says_which_file_goes_where(shell: Shell, monkeypatch) -> None:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    failed = shell.call("data", "fetch", "ptb", expect=2, **OFFLINE)
    assert failed.stdout == ""
    assert "is this machine offline?" in failed.stderr
    for original in _FILES.values():
        place = shell.folder / "cache" / "data" / "ptb" / original.name
        assert f"{_MIRROR}/{original.name} -> {place} (MD5 {original.md5})" in failed.stderr
    assert not list((shell.folder / "cache").rglob("*.txt"))


@needs_ptb
def test_what_is_here_is_checked_and_not_fetched_again(shell: Shell) -> None:
    place = shell.folder / "own" / "ptb"
    place.mkdir(parents=True)
    for original in _FILES.values():
        (place / original.name).symlink_to(REAL / "ptb" / original.name)
    fetched = shell.call("data", "fetch", "ptb", "--dir", "own", **OFFLINE)
    assert fetched.stdout == f"ptb already here and whole: {place}\n"
    assert f"EPSGRID_DATA={place.parent}" in fetched.stderr
    document = shell.json("data", "fetch", "ptb", "--dir", "own", **OFFLINE)
    assert document == {"version": 1, "name": "ptb", "place": str(place), "fetched_now": False}
    checked = shell.call("data", "check", "ptb", "--dir", "own").stdout
    assert checked.startswith("ok     ptb.train.txt: 42,068 lines, MD5 f26c4b92c5fdc7b3f8c7cdcb991d8420\n")
    assert checked.endswith("is whole\n")


def test_check_says_what_is_wrong(shell: Shell) -> None:
    place = shell.folder / "cache" / "data" / "ptb"
    place.mkdir(parents=True)
    (place / "ptb.train.txt").write_text("a cat\n")
    checked = shell.call("data", "check", "ptb", expect=2)
    assert "WRONG  ptb.train.txt: " in checked.stdout
    assert "1 lines, Penn Treebank's has 42,068" in checked.stdout
    assert "WRONG  ptb.valid.txt: missing" in checked.stdout
    assert "Next: move it away, then epsgrid data fetch ptb" in checked.stderr
    document = shell.json("data", "check", "ptb", expect=2)
    assert document["whole"] is False
    assert document["findings"][1] == {"what": "ptb.valid.txt", "problem": "missing"}


def test_a_wrong_name_gets_a_suggestion_without_torch_and_without_the_network(shell: Shell) -> None:
    for command in ("fetch", "check"):
        error = shell.call("data", command, "cifar", expect=2).stderr
        assert error.splitlines()[-1].startswith("error: unknown data set 'cifar'; did you mean 'cifar10'?")
    modules = shell.imported("data list", "data check --help", "data --help")
    assert not {"torch", "torchvision", "pooch", "requests"} & modules


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_lines_in_a_log_and_a_bar_in_a_terminal(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)
    monkeypatch.setattr("epsgrid.cli.progress.err", lambda: console)
    with progress_shown(quiet=False, in_bytes=True) as (say, on_bytes):
        say("fetching [this]")
        on_bytes("big.tgz", 1_000_000, 2_500_000)
        on_bytes("big.tgz", 2_500_000, 2_500_000)
    shown = console.file.getvalue()
    assert "fetching [this]" in shown
    assert ("\x1b" in shown) == terminal
    if not terminal:
        assert shown.splitlines() == ["fetching [this]", "big.tgz: 1.0 of 2.5 MB", "big.tgz: 2.5 of 2.5 MB"]
    console.file = io.StringIO()
    with progress_shown(quiet=True, in_bytes=True) as (say, on_bytes):
        say("fetching")
        on_bytes("big.tgz", 1, 1)
    assert console.file.getvalue() == ""
