"""`epsgrid inspect FILE ...`: the answer of one checkpoint, the timeline of several, and errors beside results."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

import epsgrid
from epsgrid.numerics.precision import percent
from tests.cli.conftest import Shell
from tests.observing.samples import OPTIMIZERS, mlp, train


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of one training, saved in no order of their names, and some that are of no use."""
    folder = tmp_path_factory.mktemp("kept")
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), eps=1e-2)
    for number, name in enumerate(("c", "a", "b")):
        train(model, optimizer, 5, start=5 * number)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{name}.pt")
    torch.save({"o": optimizer.state_dict(), "hyper_parameters": argparse.Namespace(lr=1)}, folder / "code.ckpt")
    torch.save(model.state_dict(), folder / "model.pth")
    (folder / "half.pt").write_bytes((folder / "a.pt").read_bytes()[:3000])
    other = OPTIMIZERS["rmsprop"](model.parameters())
    train(model, other, 3)
    torch.save(other.state_dict(), folder / "other.pt")
    state = optimizer.state_dict()
    state["state"][0]["exp_avg_sq"] = torch.full((40, 6), torch.nan)
    torch.save({"model": model.state_dict(), "o": state}, folder / "nan.pt")
    return folder


def test_one_file_is_answered_on_a_screen(kept: Path) -> None:
    shown = Shell(kept).call("inspect", "b.pt")
    lines = shown.stdout.splitlines()
    (found,) = epsgrid.read_checkpoint(kept / "b.pt").optimizers
    share = found.adaptable_fraction()
    assert re.fullmatch(rf"ε bounds: \S+ to \S+; at its ε, 1e-2, {percent(share.total)} of the entries adapt", lines[0])
    assert lines[1:3] == ["b.pt", "state       adam, step 15, 6 layers, 483 entries"]
    code, screen = Shell(kept).in_terminal("inspect", str(kept / "b.pt"), COLUMNS="80", NO_COLOR="1")
    on_screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen).splitlines()
    assert code == 0 and 12 <= len(on_screen) <= 24 and max(map(cell_len, on_screen)) <= 80
    rows = dict(re.findall(r"^(\d\.\w+) .* ([\d.]+) % ", shown.stdout, re.MULTILINE))
    assert rows == {name: percent(each).removesuffix(" %") for name, each in share.layers.items()}
    assert shown.stderr == ""


def test_many_layers_are_shown_by_what_they_decide(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    state = {n: {"step": 3, "exp_avg_sq": torch.full((4,), 4.0**-n)} for n in range(30)}
    group = {
        "params": list(range(30)),
        "betas": (0.9, 0.999),
        "eps": 1e-3,
        "param_names": [f"layer{n}" for n in range(30)],
    }
    torch.save({"state": state, "param_groups": [group]}, tmp_path / "x.pt")
    few = shell.call("inspect", "x.pt").stdout
    names = re.findall(r"^(layer\d+)", few, re.MULTILINE)
    assert len(few.splitlines()) <= 24 and len(names) == 10 and {"layer0", "layer29"} <= set(names)
    assert "and 20 more layers: --all-layers shows them" in few
    assert len(re.findall(r"^layer\d+", shell.call("inspect", "x.pt", "--all-layers").stdout, re.MULTILINE)) == 30


def test_several_files_are_a_timeline_by_steps_with_a_page(kept: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    shown = Shell(kept).call("inspect", "a.pt", "b.pt", "c.pt", "--out", str(page))
    assert shown.stdout.startswith("ε bounds: ") and shown.stdout.splitlines()[0].endswith(" in b.pt")
    rows = re.findall(r"^(\w\.pt) +(\d+) +\S+ to \S+ +1e-2 +[\d.]+ % +[\d.]+ %$", shown.stdout, re.MULTILINE)
    assert rows == [("c.pt", "5"), ("a.pt", "10"), ("b.pt", "15")]
    text = (page / "checkpoints.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 2 and "How far ε shortens" in text and "adam: 3 checkpoints" in text
    assert "http://" not in text
    assert "step" in text[text.index("<svg") :]


def test_an_experiments_folder_in_the_environment_gets_no_page(kept: Path, tmp_path: Path) -> None:
    Shell(kept).call("inspect", "a.pt", EPSGRID_OUT=str(tmp_path / "experiment"))
    assert not (tmp_path / "experiment").exists()


def test_files_that_cannot_be_read_are_named_and_the_rest_is_shown(kept: Path) -> None:
    bad = ("code.ckpt", "model.pth", "half.pt", "other.pt", "nan.pt", "nowhere.pt")
    shown = Shell(kept).call("inspect", "a.pt", *bad, "b.pt", expect=2)
    errors = [line for line in shown.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(bad)
    for name, message in zip(
        ("code.ckpt", "model.pth", "half.pt", "nan.pt", "nowhere.pt", "other.pt"),
        (
            r"argparse\.Namespace",
            "only 6 tensors",
            "truncated",
            "240 NaN or .* in 0.weight",
            "No such file",
            "rmsprop",
        ),
        strict=True,
    ):
        assert any(re.match(rf"error: {name}: .*{message}", error) for error in errors), (name, errors)
    assert re.findall(r"^(\S+\.pt) ", shown.stdout, re.MULTILINE) == ["a.pt", "nan.pt", "b.pt"]
    assert "error: model.pth: " in Shell(kept).call("inspect", "model.pth", expect=2).stderr


@pytest.mark.parametrize("other", ["other.pt", "nowhere.pt"])
def test_what_is_left_of_two_files_is_shown(kept: Path, other: str) -> None:
    shown = Shell(kept).call("inspect", "a.pt", other, expect=2)
    assert shown.stdout.startswith("ε bounds: ") and "a.pt" in shown.stdout
    assert shown.stderr.count("error: ") == 1 and other in shown.stderr


def test_json_has_all_of_it(kept: Path) -> None:
    document = Shell(kept).json("inspect", "a.pt", "model.pth", expect=2)
    (found,) = document["files"]
    (optimizer,) = epsgrid.read_checkpoint(kept / "a.pt").optimizers
    assert (found["file"], found["where"], found["optimizer"], found["step"]) == ("a.pt", "optimizer", "adam", 10)
    assert found["bounds"]["low"]["magnitude"] == optimizer.bounds().low.magnitude
    assert found["adaptable"] == optimizer.adaptable_fraction().total
    layer = found["layers"][0]
    assert epsgrid.LogHistogram.from_json(layer["histogram"]) == optimizer.histograms()["0.weight"]
    assert (layer["name"], layer["shape"], layer["step"], layer["epsilon"]) == ("0.weight", [40, 6], 10, 1e-2)
    assert layer["damping"] == optimizer.diagnosis().layers[0].damping.mean < found["layers"][1]["damping"]
    assert found["damping"] == optimizer.diagnosis().damping.mean
    assert "model.pth" in document["errors"][0]


def test_what_a_file_lacks_is_given_by_options(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    torch.save({"x.exp_avg_sq": torch.ones(9), "x.step": torch.tensor(1.0)}, tmp_path / "bare.bin")
    bare = shell.call("inspect", "bare.bin").stdout
    assert bare.startswith("ε bounds: 10 to 10; its ε is not known") or "its ε is not known" in bare
    assert "note        betas are not in the file: 0.9, 0.999 are assumed" in bare
    given = ("--epsilon", "2", "--betas", "0.9,0.75", "--optimizer", "radam")
    shown = shell.call("inspect", "bare.bin", *given, expect=0).stdout
    assert "at its ε, 2" in shown and "before bias correction" in shown
    assert "two numbers such as" in shell.call("inspect", "bare.bin", "--betas", "0.9", expect=2).stderr
    assert "--betas are of checkpoints" in shell.call("inspect", "--betas", "0.9,0.5", expect=2).stderr
    assert "none of a, b, c is a file" in shell.call("inspect", "a", "b", "c", expect=2).stderr


def test_the_ranks_files_of_one_checkpoint_are_one(tmp_path: Path) -> None:
    for rank in range(2):
        state = {0: {"step": 3, "exp_avg_sq": torch.full((4,), rank + 1.0)}}
        torch.save({"state": state, "param_groups": [{"params": [0], "eps": 1e-8}]}, tmp_path / f"optim_rank{rank}.pt")
    shown = Shell(tmp_path).call("inspect", "optim_rank0.pt", "optim_rank1.pt")
    assert "step 3, 1 layer, 8 entries" in shown.stdout
