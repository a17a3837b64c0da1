"""Watch ε in a job of several processes: DistributedDataParallel over gloo, no GPU needed.

    torchrun --nproc-per-node 2 experiments/examples/ddp.py

Every rank observes what it holds, and asks together with the others: a replicated v counts once, and where a layer is
cut (`fully_shard`, ZeroRedundancyOptimizer) its parts add up. Only rank 0 warns: all ranks have the same v here.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import epsgrid
from epsgrid.observing.distributed import gathered_bounds, gathered_diagnosis


def main() -> None:
    """Train one rank."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=0.1)  # an ε that is too large
    observer = epsgrid.observe(optimizer, model=model, alarm=rank == 0)

    generator = torch.Generator().manual_seed(rank)  # batches of its own
    for step in range(1, 61):
        inputs = torch.randn(64, 20, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), inputs[:, :3].argmax(1)).backward()
        optimizer.step()
        if step % 20 == 0:
            diagnosis = gathered_diagnosis(observer)  # on every rank
            if rank == 0:
                print(f"step {step}: damping {diagnosis.damping.mean:.2f}", flush=True)

    bounds = gathered_bounds(observer)
    if rank == 0:
        print(bounds)
        print(diagnosis)
    observer.close()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
