"""Watch ε in a loop of Hugging Face Accelerate, with gradient accumulation and TensorBoard.

    pip install 'epsgrid[tensorboard,transformers]'     # the latter brings accelerate
    python experiments/examples/accelerate_loop.py
    accelerate launch --cpu --num_processes 2 experiments/examples/accelerate_loop.py

`observe` looks through the wrappers that `prepare` puts around optimizer and model: layers have their own names.
"""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn

import epsgrid
from epsgrid.observing.distributed import gathered_bounds, gathered_diagnosis, gathered_series
from epsgrid.observing.trackers import scalars


def main() -> None:
    """Train."""
    accelerator = Accelerator(
        cpu=True, gradient_accumulation_steps=2, log_with="tensorboard", project_dir="runs/accelerate"
    )
    accelerator.init_trackers("epsgrid")
    torch.manual_seed(0)
    inputs = torch.randn(8192, 20)
    data = torch.utils.data.TensorDataset(inputs, inputs[:, :3].argmax(1))
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(data, batch_size=64)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    observer = epsgrid.observe(optimizer, model=model, alarm=accelerator.is_main_process)

    for features, labels in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(features), labels)
            accelerator.backward(loss)
            optimizer.step()  # Accelerate skips it between updates, and so does the observer
            optimizer.zero_grad()
        if accelerator.sync_gradients and observer.step % 16 == 0:
            diagnosis, series = gathered_diagnosis(observer), gathered_series(observer)  # on every rank
            row = scalars(series, diagnosis=diagnosis)[observer.step]
            accelerator.log({"loss": loss.item(), **row}, step=observer.step)

    bounds = gathered_bounds(observer)
    accelerator.print(f"{observer.step} steps, damping {diagnosis.damping.mean:.2f}")
    accelerator.print(bounds)
    observer.close()
    accelerator.end_training()


if __name__ == "__main__":
    main()
