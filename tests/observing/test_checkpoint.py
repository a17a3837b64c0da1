"""Checkpoints that the real libraries write are read without their model, to the same bounds as an observer's."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

import epsgrid
from epsgrid.errors import NoBoundsError, ObservationError
from epsgrid.integrations._following import repair_torchvision
from epsgrid.observing.checkpoint import CheckpointOptimizer, read_checkpoint
from epsgrid.observing.checkpoint_files import open_file
from epsgrid.observing.observer import Observer
from tests.observing.samples import OPTIMIZERS, mlp, network, train

Trained = tuple[nn.Module, torch.optim.Optimizer, Observer]


def trained(name: str = "adam", model: nn.Module | None = None, steps: int = 7) -> Trained:
    model = model or mlp()
    optimizer = OPTIMIZERS[name](model.parameters())
    with epsgrid.observe(optimizer, model=model) as observer:
        train(model, optimizer, steps)
    return model, optimizer, observer


def only(path: Path, **asked: Any) -> CheckpointOptimizer:
    (optimizer,) = read_checkpoint(path, **asked).optimizers
    return optimizer


def assert_same(found: CheckpointOptimizer, observer: Observer) -> None:
    expected, bounds = observer.bounds(), found.bounds()
    assert (bounds.low, bounds.high, bounds.step) == (expected.low, expected.high, expected.step)
    assert found.histograms() == observer.histograms()
    assert found.adaptable_fraction(1e-3) == observer.adaptable_fraction(1e-3)
    assert found.step == observer.step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_every_optimizer_gives_what_an_observer_gave(name: str, tmp_path: Path) -> None:
    model, optimizer, observer = trained(name)
    torch.save({"model": model.state_dict(), "deep": [0, {"o": optimizer.state_dict()}]}, tmp_path / "any.name")
    found = only(tmp_path / "any.name")
    assert_same(found, observer)
    assert found.adaptable_fraction() == observer.adaptable_fraction()
    assert (found.where, found.notes) == ("deep.1.o", ())
    assert found.name == {"adamw": "adam"}.get(name, name.split("-")[0])


def test_files_older_than_the_zip_format_are_read(tmp_path: Path) -> None:
    model, optimizer, observer = trained()
    stored = {"optimizer": optimizer.state_dict(), "model": model.state_dict()}
    torch.save(stored, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert_same(only(tmp_path / "x.pt"), observer)


def test_names_that_the_optimizer_was_given_are_in_the_file(tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.named_parameters())
    train(model, optimizer, 3)
    torch.save(optimizer.state_dict(), tmp_path / "x.pt")
    assert [layer.name for layer in only(tmp_path / "x.pt").layers] == [name for name, _ in model.named_parameters()]


SAFETENSORS = {
    "by number": lambda numbers, names: {
        f"state.{key}.{name}": v for key, s in numbers.items() for name, v in s.items()
    },
    "behind": lambda numbers, names: {f"{key}.{name}": v for key, s in names.items() for name, v in s.items()},
    "before": lambda numbers, names: {f"{name}.{key}": v for key, s in names.items() for name, v in s.items()},
}


@pytest.mark.parametrize("layout", SAFETENSORS)
def test_safetensors_are_mapped_whatever_the_order_of_their_keys(layout: str, tmp_path: Path) -> None:
    model, optimizer, observer = trained()
    numbers = optimizer.state_dict()["state"]
    names = dict(zip(dict(model.named_parameters()), numbers.values(), strict=True))
    path = tmp_path / "state.safetensors"
    save_file(SAFETENSORS[layout](numbers, names), path, metadata={"betas": "[0.9, 0.99]", "eps": "1e-8"})
    found = only(path)
    assert found.bounds().low.magnitude == observer.bounds().low.magnitude
    assert found.bounds().high.magnitude == observer.bounds().high.magnitude
    assert (found.step, found.epsilons) == (7, (1e-8,))
    if layout != "by number":
        assert found.adaptable_fraction().layers == observer.adaptable_fraction().layers


def test_what_a_file_lacks_is_said_and_can_be_given(tmp_path: Path) -> None:
    _, optimizer, _ = trained()
    path = tmp_path / "bare.safetensors"
    save_file({f"exp_avg_sq.{key}": s["exp_avg_sq"] for key, s in optimizer.state_dict()["state"].items()}, path)
    bare = only(path)
    assert bare.step is None and bare.epsilons == ()
    assert [note.split(":")[0] for note in bare.notes[:2]] == [
        "the steps taken are not in the file",
        "betas are not in the file",
    ]
    with pytest.raises(ObservationError, match="give epsilon="):
        bare.adaptable_fraction()
    save_file({"state.0.exp_avg_sq": torch.ones(5), "state.0.step": torch.tensor(2.0)}, path)
    given = only(path, epsilon=1e-4, betas=(0.5, 0.75), optimizer="radam")
    (reading,) = given.readings()
    assert (reading.scale, reading.epsilon) == (pytest.approx(1 / (1 - 0.75**2)), 1e-4)
    assert reading.placement is not None and "before bias correction" in reading.placement.where


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize("form", ["names", "flattened", "numbers"])
def test_folders_of_distributed_checkpoints_are_read(form: str, tmp_path: Path) -> None:
    model, optimizer, observer = trained()
    options = StateDictOptions(flatten_optimizer_state_dict=form == "flattened")
    state = optimizer.state_dict() if form == "numbers" else get_optimizer_state_dict(model, optimizer, options=options)
    dcp.save({"model": model.state_dict(), "optim": state}, checkpoint_id=tmp_path, no_dist=True)
    assert_same(only(tmp_path), observer)
    shard = tmp_path / "__0_0.distcp"
    shard.rename(tmp_path / "elsewhere")
    with pytest.raises(ObservationError, match=r"shards are missing: __0_0\.distcp of 1"):
        read_checkpoint(tmp_path)
    shard.write_bytes((tmp_path / "elsewhere").read_bytes()[:100])
    with pytest.raises(ObservationError, match="damaged or truncated"):
        read_checkpoint(tmp_path).optimizers[0].bounds()


def test_metadata_of_a_distributed_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Harmful(tmp_path / "done")))
    with pytest.raises(ObservationError, match=r"asks for \w+\.mkdir, which is refused"):
        read_checkpoint(tmp_path)
    assert not (tmp_path / "done").exists()
    (tmp_path / ".metadata").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(ObservationError, match="damaged or truncated"):
        read_checkpoint(tmp_path)


def test_shards_of_several_ranks_are_one_checkpoint_and_replicas_count_once(tmp_path: Path) -> None:
    _, optimizer, observer = trained()
    state = optimizer.state_dict()

    def part(v: torch.Tensor, rank: int) -> torch.Tensor:
        return v if v.dim() == 0 else v.flatten()[v.numel() // 2 :] if rank else v.flatten()[: v.numel() // 2]

    for rank in range(2):
        cut = {key: {name: part(v, rank) for name, v in entry.items()} for key, entry in state["state"].items()}
        torch.save({**state, "state": cut}, tmp_path / f"optim_world_size_2_rank_{rank}.pt")
    expected = observer.bounds()
    for path in (tmp_path, tmp_path / "optim_world_size_2_rank_1.pt"):
        found = only(path)
        assert list(found.histograms().values()) == list(observer.histograms().values())
        assert found.bounds().low.magnitude == expected.low.magnitude
    (tmp_path / "optim_world_size_2_rank_0.pt").unlink()
    with pytest.raises(ObservationError, match=r"no file like optim_world_size_2_rank_1\.pt of rank 0"):
        read_checkpoint(tmp_path)
    folder = tmp_path / "replicas"
    folder.mkdir()
    for rank in range(2):
        torch.save(state, folder / f"optimizer_rank{rank}.bin")
    assert only(folder).bounds().low.magnitude == expected.low.magnitude
    assert sum(each.entries for _, each in only(folder).measured) == 483


def test_states_of_eight_bits_are_dequantised(tmp_path: Path) -> None:
    torch.manual_seed(0)
    book = torch.linspace(0, 1, 256) ** 2
    codes, largest = torch.randint(256, (30, 100), dtype=torch.uint8), torch.rand(12)  # blocks of 256
    eight = {"state1": codes, "qmap1": book, "absmax1": largest, "state2": codes, "qmap2": book, "absmax2": largest}
    small = {"state1": torch.ones(4), "state2": torch.full((4,), 0.25)}
    state = {0: {"step": 3, "__bnb_optimizer_quant_state__": eight}, 1: {"step": 3, **small}}
    group = {"params": [0, 1], "betas": (0.9, 0.999), "eps": 1e-8, "alpha": 0.0}
    torch.save({"state": state, "param_groups": [group]}, tmp_path / "x.pt")
    found = only(tmp_path / "x.pt")
    first, second = found.readings()
    expected = torch.stack([book[code] * largest[n // 256] for n, code in enumerate(codes.flatten().tolist())])
    assert first.values is not None and torch.equal(first.values.flatten(), expected)
    assert second.values is not None and second.values.tolist() == [0.25] * 4
    assert "8 bits" in found.notes[-1]
    torch.save(
        {"state": {0: {"step": 3, "state1": codes, "qmap1": book, "max1": largest[0]}}, "param_groups": []},
        tmp_path / "y.pt",
    )
    with pytest.raises(ObservationError, match="bitsandbytes keeps one moment there"):
        read_checkpoint(tmp_path / "y.pt")
    (reading,) = only(tmp_path / "y.pt", optimizer="rmsprop").readings()
    assert reading.values is not None and torch.equal(reading.values, book[codes.int()] * largest[0])


def test_the_epsilon_that_adabelief_adds_to_its_v_is_taken_out(tmp_path: Path) -> None:
    _, optimizer, observer = trained("adabelief")
    state = optimizer.state_dict()
    (group,) = state["param_groups"]
    added = group["eps"] * (1 - 0.99**7) / 0.01
    entries = {k: {"step": 7, "exp_avg_var": s["exp_avg_sq"] + added} for k, s in state["state"].items()}
    plain = {name: group[name] for name in ("params", "betas", "eps")}
    torch.save({"state": entries, "param_groups": [plain]}, tmp_path / "x.pt")
    found = only(tmp_path / "x.pt").bounds()
    assert found.low.magnitude == pytest.approx(observer.bounds().low.magnitude, rel=1e-3)
    assert found.high.magnitude == pytest.approx(observer.bounds().high.magnitude, rel=1e-3)


def test_names_come_from_a_models_order_only_where_there_is_no_other_way(tmp_path: Path) -> None:
    model = network()  # batch norm: its buffers have the shapes of its parameters
    model[0].bias.requires_grad = False
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    train(model, optimizer, 2)
    torch.save(
        {"model": {f"module.{k}": v for k, v in model.state_dict().items()}, "o": optimizer.state_dict()},
        tmp_path / "x.pt",
    )
    names = [layer.name for layer in only(tmp_path / "x.pt").layers]
    # three parameters of 20 entries, of which the optimizer has two: either may be the first or the second
    assert names == ["0.weight", "group 0, parameter 1", "group 0, parameter 2", "4.weight", "4.bias"]
    save_file(model.state_dict(), tmp_path / "model.safetensors")  # has lost the order
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    names = [layer.name for layer in only(tmp_path).layers]
    assert names == ["0.weight", "group 0, parameter 1", "group 0, parameter 2", "4.weight", "4.bias"]


def test_blocks_are_named_by_their_numbers_where_the_order_is_lost(tmp_path: Path) -> None:
    """safetensors sorts names: 10 stands before 2, and bias before weight."""
    blocks = [nn.ModuleDict({"up": nn.Linear(4, 7), "a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(11)]
    model = nn.ModuleDict({"h": nn.ModuleList(blocks)})
    named = dict(model.named_parameters())
    matrices = [name for name in named if name.endswith("weight")]
    groups = [
        {"params": [named[each] for each in matrices]},
        {"params": [named[e] for e in named if e not in matrices]},
    ]
    optimizer = torch.optim.Adam(groups)
    for parameter in named.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    expected = [name if ".up." in name else f"group 0, parameter {place}" for place, name in enumerate(matrices)]
    vectors = [name for name in named if name not in matrices]
    expected += [name if ".up." in name else f"group 1, parameter {place}" for place, name in enumerate(vectors)]
    assert [layer.name for layer in only(tmp_path).layers] == expected


class Harmful:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def adam_state(**entries: Any) -> dict[str, Any]:
    group = {"params": [0], "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
    return {"state": {0: entries} if entries else {}, "param_groups": [group]}


ADAM = adam_state(exp_avg_sq=torch.ones(3), step=4)
BAD: dict[str, tuple[Any, str]] = {
    "a model alone": (mlp().state_dict(), "only 6 tensors of a model, such as 0.weight"),
    "nothing": ({"epoch": 3}, "no tensors either"),
    "momentum": (adam_state(momentum_buffer=torch.ones(3)), "no second moment: its entries are momentum_buffer; SGD"),
    "lion": (adam_state(exp_avg=torch.ones(3)), "Lion"),
    "adafactor": (adam_state(exp_avg_sq_row=torch.ones(3), exp_avg_sq_col=torch.ones(3)), "Adafactor"),
    "unknown": (adam_state(second=torch.ones(3)), "are second; they are of no optimizer .* --optimizer NAME"),
    "adan": (adam_state(exp_avg_sq=torch.ones(3), exp_avg_diff=torch.ones(3)), "Adan"),
    "before the first step": (adam_state(), "its state is empty"),
    "a namespace": (
        {"o": adam_state(), "hyper_parameters": argparse.Namespace(a=1)},
        r"argparse\.Namespace.*save the st",
    ),
    "ε": ({**ADAM, "param_groups": [{**ADAM["param_groups"][0], "eps": float("nan")}]}, "group 0 has ε = nan, which"),
    "code": (Harmful(Path("never")), r"asks for \w+\.mkdir, which is refused"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_read_says_why(name: str, tmp_path: Path) -> None:
    stored, message = BAD[name]
    torch.save(stored, tmp_path / "x.pt")
    with pytest.raises(ObservationError, match=f"^{re.escape(str(tmp_path))}/x.pt: .*{message}"):
        read_checkpoint(tmp_path / "x.pt")
    assert not Path("never").exists()


@pytest.mark.parametrize("steps", [-3.0, float("nan")])
def test_steps_that_are_none_are_named(steps: float, tmp_path: Path) -> None:
    torch.save(adam_state(exp_avg_sq=torch.ones(3), step=torch.tensor(steps)), tmp_path / "x.pt")
    with pytest.raises(ObservationError, match=f"layer 'group 0, parameter 0': its state counts {steps:g} steps"):
        only(tmp_path / "x.pt").bounds()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    _, optimizer, _ = trained()
    path = tmp_path / "x"
    tensors = {f"state.{k}.exp_avg_sq": s["exp_avg_sq"] for k, s in optimizer.state_dict()["state"].items()}
    torch.save(optimizer.state_dict(), tmp_path / "zip")
    torch.save(optimizer.state_dict(), tmp_path / "old", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "safe")
    for name in ("zip", "old", "safe"):
        whole = (tmp_path / name).read_bytes()
        for end in (16, *(int(part * len(whole)) for part in (0.1, 0.5, 0.99))):
            path.write_bytes(whole[:end])
            with pytest.raises(ObservationError, match=r"x: is (damaged or )?truncated"):
                read_checkpoint(path)
    for shape, start in (([7], 0), ([2], -8), ("x", 0)):
        header = {"state.w.exp_avg_sq": {"dtype": "F32", "shape": shape, "data_offsets": [start, start + 8]}}
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
        with pytest.raises(ObservationError, match=r"gives 'state.w.exp_avg_sq' no place in the file"):
            read_checkpoint(path)
    path.write_bytes(pickle.dumps({1, 2}, protocol=4))
    with pytest.raises(ObservationError, match=r"or a pickle that torch.save did not write: Unsupported operand"):
        read_checkpoint(path)
    for content in (b"", b"an ordinary text"):
        path.write_bytes(content)
        with pytest.raises(ObservationError, match="is no checkpoint that epsgrid reads"):
            read_checkpoint(path)
    with pytest.raises(ObservationError, match="cannot be read: No such file"):
        read_checkpoint(tmp_path / "nowhere.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ObservationError, match="is a folder without an optimizer's state"):
        read_checkpoint(tmp_path / "empty")


def test_another_optimizers_name_is_refused_and_a_registered_class_is_found(tmp_path: Path, registered: Any) -> None:
    torch.save(adam_state(exp_avg_sq=torch.ones(3), step=4), tmp_path / "x.pt")
    with pytest.raises(ObservationError, match=r"rmsprop finds no second moment .* exp_avg_sq, step"):
        only(tmp_path / "x.pt", optimizer="rmsprop").bounds()
    with pytest.raises(ObservationError, match="unknown optimizer 'adma'; did you mean 'adam'"):
        read_checkpoint(tmp_path / "x.pt", optimizer="adma")
    for name in ("lion", "sgdm"):
        with pytest.raises(ObservationError, match=f"{name} has nothing to inspect"):
            read_checkpoint(tmp_path / "x.pt", optimizer=name)

    class Mine(torch.optim.SGD):
        pass

    registered(Mine, lambda state, group: epsgrid.SecondMoment(state["squares"], group["betas"][1], state["step"]))
    torch.save(adam_state(squares=torch.ones(3), step=4), tmp_path / "y.pt")
    (reading,) = only(tmp_path / "y.pt", optimizer="mine").readings()
    assert reading.scale == 1 / (1 - 0.999**4)
    with pytest.raises(ObservationError, match="registered for Mine raised KeyError: 'squares'"):
        only(tmp_path / "x.pt", optimizer="Mine").bounds()


def test_entries_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    torch.save(adam_state(exp_avg_sq=torch.tensor([1.0, torch.nan]), step=4), tmp_path / "x.pt")
    found = only(tmp_path / "x.pt")
    assert [each.histogram.nonfinite for _, each in found.measured if each.histogram] == [1]
    with pytest.raises(NoBoundsError, match="non-finite"):
        found.bounds()


@pytest.mark.filterwarnings("ignore")
def test_a_lightning_checkpoint_with_two_optimizers(tmp_path: Path) -> None:
    repair_torchvision()
    import lightning

    class Both(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(6, 5), nn.Linear(6, 4)
            self.automatic_optimization = False

        def training_step(self, batch: Any, _: int) -> None:
            for part, optimizer in zip((self.one, self.two), self.optimizers(), strict=True):
                optimizer.zero_grad()
                self.manual_backward(part(batch[0]).square().mean())
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.one.parameters()), torch.optim.RMSprop(self.two.parameters())

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(32, 6)), batch_size=8)
    module = Both()
    settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(max_epochs=1, enable_progress_bar=False, enable_model_summary=False, **settings)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    first, second = read_checkpoint(tmp_path / "last.ckpt").optimizers
    assert (first.where, first.name, second.name) == ("optimizer_states.0", "adam", "rmsprop")
    assert [layer.name for each in (first, second) for layer in each.layers] == list(module.state_dict())
    for found, optimizer in zip((first, second), trainer.optimizers, strict=True):
        observer = epsgrid.observe(optimizer, model=module)
        assert (found.bounds().low, found.bounds().high) == (observer.bounds().low, observer.bounds().high)


@pytest.mark.filterwarnings("ignore")
def test_a_folder_of_the_trainer(tmp_path: Path) -> None:
    repair_torchvision()
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=16, **sizes))
    data = [{"input_ids": torch.randint(20, (6,)), "labels": n % 2} for n in range(16)]
    arguments = TrainingArguments(str(tmp_path), max_steps=2, save_steps=2, report_to="none", use_cpu=True)
    trainer = Trainer(model, arguments, train_dataset=data)
    trainer.train()
    (folder,) = tmp_path.glob("checkpoint-*")
    found = only(folder)
    observer = epsgrid.observe(trainer.optimizer, model=model)
    assert (found.name, found.step, found.where) == ("adam", 2, "")
    published, trusted = found.bounds(), found.bounds().chosen("trusted")
    for end in ("low", "high"):
        assert getattr(trusted, end).magnitude == getattr(observer.bounds(), end).magnitude
    assert published.low.magnitude < 1e-12 < trusted.low.magnitude, "the keys' bias is only rounding noise"
    assert {"bert.embeddings.word_embeddings.weight"} <= {layer.name for layer in found.layers}
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 2


def test_only_the_tensors_asked_for_are_read(tmp_path: Path) -> None:
    model, optimizer, _ = trained()
    state = get_optimizer_state_dict(model, optimizer)
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.save({"optim": state}, checkpoint_id=tmp_path, no_dist=True)
    entry = open_file(tmp_path)["optim"]["state"]["0.weight"]["exp_avg_sq"]
    assert entry.shape == (40, 6) and torch.equal(entry.load(), state["state"]["0.weight"]["exp_avg_sq"])


def test_numbers_in_other_names_are_no_ranks(tmp_path: Path) -> None:
    for name in ("lora_rank8.pt", "lora_rank16.pt", "frank0.pt", "frank1.pt"):
        torch.save(adam_state(exp_avg_sq=torch.ones(3), step=4), tmp_path / name)
        assert sum(each.entries for _, each in only(tmp_path / name).measured) == 3


def test_empty_scalar_and_frozen_parameters(tmp_path: Path) -> None:
    shapes = ((), (1,), (0,), (2, 3))
    parameters = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    optimizer = torch.optim.NAdam([*parameters, nn.Parameter(torch.ones(4))])
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "x.pt")
    assert [each.shape for _, each in only(tmp_path / "x.pt").measured] == list(shapes)


@pytest.mark.parametrize("betas", ["[0.9, 0.5]", "(0.9, 0.5)", "nonsense"])
def test_metadata_of_safetensors_are_numbers_or_nothing(betas: str, tmp_path: Path) -> None:
    save_file({"w.exp_avg_sq": torch.ones(3)}, tmp_path / "x", metadata={"betas": betas, "step": "2", "eps": "1e-6"})
    (reading,) = only(tmp_path / "x").readings()
    assert reading.epsilon == 1e-6
    assert reading.scale == pytest.approx(1 / (1 - (0.999 if betas == "nonsense" else 0.5) ** 2))


def endless() -> dict[str, Any]:
    stored: dict[str, Any] = {}
    stored["again"] = stored
    return stored


V = torch.ones(3)
FOREIGN: dict[str, Any] = {
    "a file that holds itself": endless(),
    "groups of text": {**adam_state(exp_avg_sq=V, step=4), "param_groups": ["all"]},
    "no betas": {**adam_state(exp_avg_sq=V, step=4), "param_groups": [{"params": [0], "betas": None}]},
    "no tensor": adam_state(exp_avg_sq=None, step=4),
    "no data": adam_state(exp_avg_sq=torch.ones(3, device="meta"), step=4),
    "sparse": adam_state(exp_avg_sq=V.to_sparse(), step=4),
    "whole numbers": adam_state(exp_avg_sq=torch.ones(3, dtype=torch.int32), step=4),
    "below zero": adam_state(exp_avg_sq=-V, step=4),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_forms_that_nobody_foresaw_are_errors_of_the_file(name: str, tmp_path: Path) -> None:
    torch.save(FOREIGN[name], tmp_path / "x.pt")
    with pytest.raises(
        ObservationError, match=r"is of a form that epsgrid cannot read|cannot (be read|count)|a mean of sq"
    ):
        only(tmp_path / "x.pt").bounds()


def test_of_two_epsilons_none_is_taken(tmp_path: Path) -> None:
    two = {**adam_state(exp_avg_sq=V, step=4), "param_groups": [{"params": [0], "eps": (1e-30, 1e-3)}]}
    torch.save(two, tmp_path / "x.pt")
    found = only(tmp_path / "x.pt")
    assert found.epsilons == () and found.bounds().low.magnitude > 0


def test_groups_of_another_optimizer_are_left_out_with_a_note(tmp_path: Path) -> None:
    state = {0: {"momentum_buffer": torch.ones(9)}, 1: {"exp_avg_sq": V, "step": 4}, 2: {"exp_avg_sq": V, "step": 4}}
    groups = [{"params": [0], "lr": 0.1}, {"params": [1, 2], "eps": 1e-8, "param_names": ["same", "same"]}]
    torch.save({"state": state, "param_groups": groups}, tmp_path / "x.pt")
    found = only(tmp_path / "x.pt")
    assert [layer.name for layer in found.layers] == ["same", "group 1, parameter 1"]
    assert any(note.startswith("a group is left out: no second moment") for note in found.notes)
