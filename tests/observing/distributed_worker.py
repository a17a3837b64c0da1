"""One rank of a job that `test_distributed` starts: `python -m tests.observing.distributed_worker RANK FOLDER`.

Every scenario is run in turn; `FOLDER/SCENARIO-RANK.pt` holds what this rank got from it, and, from the first rank, the
whole of v, put together by torch.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import epsgrid
from epsgrid.errors import EpsgridError
from epsgrid.observing.distributed import gathered_bounds, gathered_diagnosis, gathered_series
from epsgrid.observing.observer import Observer
from epsgrid.observing.reading import measure_reading, read

Named = Iterable[tuple[str, torch.Tensor]]

STEPS = 3


def small_model() -> nn.Module:
    """Build the same weights on every rank and in the test; the last layers have fewer rows than ranks."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 1))


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups, of which the second has an ε far above its gradients and a learning rate of its own."""
    held = list(model.parameters())
    return [{"params": held[:4]}, {"params": held[4:], "eps": 10.0, "lr": 1e-2}]


def batches(rank: int = 0) -> list[torch.Tensor]:
    """Return a rank's inputs; rank 0's are also those of the one process it is compared with."""
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(4, 7, generator=generator) for _ in range(STEPS)]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Iterable[torch.Tensor]) -> None:
    for batch in inputs:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


def assigned(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Return gradients over thirty decades with zeros and ties, the same everywhere."""
    generator = torch.Generator().manual_seed(7)
    gradients = {}
    for name, shape in shapes.items():
        gradient = 10 ** (30 * torch.rand(shape, generator=generator, dtype=torch.float64) - 15)
        gradient[torch.rand(shape, generator=generator) < 0.2] = 0
        gradient[torch.rand(shape, generator=generator) < 0.2] = 1e-3
        gradients[name] = gradient.to(dtype)
    return gradients


def adam_on(parameters: dict[str, nn.Parameter], gradients: dict[str, torch.Tensor], ask: Any = None) -> dict[str, Any]:
    optimizer = torch.optim.Adam(parameters.values(), foreach=False)
    observer = epsgrid.observe(optimizer, parameters.items())
    for name, parameter in parameters.items():
        parameter.grad = gradients[name]
    optimizer.step()
    return ask(observer) if ask else {**answers(observer), "v": whole(optimizer, parameters.items())}


def answers(observer: Observer) -> dict[str, Any]:
    """Return what both functions give, and this rank's own statistics by name."""
    readings = read(observer.optimizer, observer.layers, observer.adapter)
    return {
        "bounds": gathered_bounds(observer),
        "series": gathered_series(observer, 0.5),
        "diagnosis": gathered_diagnosis(observer),
        "local": {reading.layer.name: measure_reading(reading, observer.tail_fraction) for reading in readings},
    }


def error_of(observer: Observer) -> dict[str, Any]:
    try:
        gathered_bounds(observer)
    except EpsgridError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": ""}


def whole(optimizer: torch.optim.Optimizer, named: Named) -> dict[str, torch.Tensor]:
    """Return v of every parameter in full; torch puts shards together, a collective."""
    found = {}
    for name, parameter in named:
        v = optimizer.state[parameter]["exp_avg_sq"]
        found[name] = v.full_tensor() if hasattr(v, "full_tensor") else v
    return found


def replica(inputs: Iterable[torch.Tensor]) -> tuple[nn.Module, torch.optim.Optimizer, Observer]:
    model = small_model()
    optimizer = torch.optim.Adam(groups_of(model))
    observer = epsgrid.observe(optimizer, model=model)
    train(model, optimizer, inputs)
    return model, optimizer, observer


def ddp(rank: int) -> dict[str, Any]:
    """Every rank has its own batches and the same v."""
    return trained(DistributedDataParallel(small_model()), batches(rank))


def fsdp2(rank: int) -> dict[str, Any]:
    """Same batches on both ranks: halves of a sum of equals are exact, so v is that of one process."""
    model = small_model()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in (model[0], model[2], model):
        fully_shard(module, mesh=mesh)
    return trained(model, batches())


def hsdp(rank: int) -> dict[str, Any]:
    """Replicated over one mesh dimension, cut along the other."""
    model = small_model()
    fully_shard(model, mesh=init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("dp", "shard")))
    return trained(model, batches())


def trained(model: nn.Module, inputs: Iterable[torch.Tensor]) -> dict[str, Any]:
    optimizer = torch.optim.Adam(groups_of(model))
    observer = epsgrid.observe(optimizer, model=model)
    train(model, optimizer, inputs)
    names = [layer.name for layer in observer.layers]
    return {**answers(observer), "v": whole(optimizer, zip(names, model.parameters(), strict=True))}


def zero(rank: int) -> dict[str, Any]:
    """Each rank's inner optimizer has the state of its own parameters."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # warns where it is imported, of torch.jit

    model = DistributedDataParallel(small_model())
    optimizer = ZeroRedundancyOptimizer(groups_of(model), torch.optim.Adam, lr=1e-3)
    observer = epsgrid.observe(optimizer, model=model)
    train(model, optimizer, batches())
    return answers(observer)


def out_of_step(rank: int) -> dict[str, Any]:
    """Replicas at different steps."""
    return error_of(replica(batches()[: 1 + rank])[2])


def unreadable(rank: int) -> dict[str, Any]:
    """A negative second moment on the second rank alone."""
    model, optimizer, observer = replica(batches())
    if rank == 1:
        optimizer.state[model[2].weight]["exp_avg_sq"].neg_()
    return error_of(observer)


def unbuilt(rank: int) -> dict[str, Any]:
    """No step taken yet."""
    return error_of(replica([])[2])


def flattened(rank: int) -> dict[str, Any]:
    """The older FSDP, whose parts do not say where they belong."""
    model = FullyShardedDataParallel(small_model(), use_orig_params=True, device_id=torch.device("cpu"))
    optimizer = torch.optim.Adam(model.parameters())
    observer = epsgrid.observe(optimizer, model=model)
    train(model, optimizer, batches())
    return error_of(observer)


UNEVEN = {"rows": (7, 5), "few rows": (2, 3), "columns": (4, 8), "copies": (3, 3), "scalar": (1,)}
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def uneven(rank: int, dtype: torch.dtype) -> dict[str, Any]:
    """Shards of unequal size along either dimension, one rank without any entry, and copies."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    along = {"columns": Shard(1), "copies": Replicate()}
    gradients = {
        name: distribute_tensor(gradient, mesh, [along.get(name, Shard(0))])
        for name, gradient in assigned(UNEVEN, dtype).items()
    }
    parameters = {name: nn.Parameter(torch.zeros_like(gradient)) for name, gradient in gradients.items()}
    return adam_on(parameters, gradients)


def lacking(rank: int) -> dict[str, Any]:
    """Shards on two ranks, of which the second observes something else."""
    gradient = distribute_tensor(torch.ones(5, 2), init_device_mesh("cpu", (2,)), [Shard(0)])
    name, own = ("other", torch.ones(3)) if rank else ("weight", gradient)
    return adam_on({name: nn.Parameter(torch.zeros_like(own))}, {name: own}, error_of)


def saved(rank: int) -> dict[str, Any]:
    """The state as each rank's torch.save and as torch.distributed.checkpoint keep it, and its bounds."""
    model, folder = small_model(), Path(sys.argv[2]) / "saved"
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    optimizer = torch.optim.Adam(model.parameters())
    observer = epsgrid.observe(optimizer, model=model)
    train(model, optimizer, batches())
    folder.mkdir(exist_ok=True)
    torch.save({"optimizer": optimizer.state_dict()}, folder / f"optim_world_size_2_rank_{rank}.pt")
    dcp.save({"optim": get_optimizer_state_dict(model, optimizer)}, checkpoint_id=folder / "dcp")
    return {"bounds": gathered_bounds(observer), "folder": folder}


_EACH = (ddp, fsdp2, hsdp, zero, out_of_step, unreadable, unbuilt, flattened, lacking, saved)
SCENARIOS: dict[str, Callable[[int], dict[str, Any]]] = {
    **{each.__name__: each for each in _EACH},
    **{f"uneven {name}": lambda rank, dtype=dtype: uneven(rank, dtype) for name, dtype in DTYPES.items()},
}


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2, timeout=timedelta(minutes=5)
    )
    for name, scenario in SCENARIOS.items():
        torch.save(scenario(rank), folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
