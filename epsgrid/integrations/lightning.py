"""A callback for Lightning: the bounds of ε after the first epoch, and √v̂ among a training's curves.

    from epsgrid.integrations.lightning import EpsilonCallback

    epsilon = EpsilonCallback()
    trainer = lightning.Trainer(max_epochs=3, callbacks=[epsilon])
    trainer.fit(model, batches)
    epsilon.bounds.low.decade, epsilon.bounds.high.decade

It observes every optimizer of the training, in automatic and in manual optimization, and changes nothing: the weights
are the same, bit for bit. At the trainer's `log_every_n_steps` every logger gets the scalars of `observing.trackers`;
TensorBoard and MLflow get the histograms as well. Where ε shortens the steps of layers there is a warning, see
`observing.diagnosis`. In a distributed job all ranks count together.

`lightning` and `pytorch_lightning` have the same trainer and a Callback each. The one that was imported first is the
base, `lightning` where neither or both were; given in a list, the callback works with the trainer of either. Imported
before them, this module also repairs a torchvision that cannot be imported beside a torch without CUDA.
"""

from __future__ import annotations

import importlib
import math
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader

from epsgrid.extras import not_installed
from epsgrid.integrations._following import BoundsAndDiagnosis, Following, repair_torchvision
from epsgrid.numerics.bounds import EpsilonBounds
from epsgrid.numerics.series import Series
from epsgrid.observing.diagnosis import EpsilonWarning
from epsgrid.observing.observer import Observer
from epsgrid.observing.trackers import Mlflow, Tensorboard
from epsgrid.streams import warn_anyway

_STATE = "epsgrid"


def _import_package() -> str:
    """Import the package whose trainer is used and return its name."""
    names = ["lightning.pytorch", "pytorch_lightning"]
    if names[1] in sys.modules and names[0] not in sys.modules:
        names.reverse()
    errors = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            errors.append(str(error))
        else:
            return name
    raise not_installed("lightning", "lightning", ImportError("; ".join(errors)))


repair_torchvision()
_PACKAGE = _import_package()
if TYPE_CHECKING:
    _Callback = object
else:
    _Callback = importlib.import_module(f"{_PACKAGE}.callbacks").Callback


class EpsilonCallback(BoundsAndDiagnosis, _Callback):
    """Observes the optimizers of `Trainer.fit` and keeps their bounds after the first epoch.

    A training that stops before gets the bounds as they are then, which say so, and are measured again when it goes on
    to the end of these epochs. A checkpoint holds the kept bounds, so a resumed training has them too. A training
    resumed beyond `probe_epochs` from a checkpoint without them gets none.

    Args:
        every: number of optimizer steps from one count to the next.
        probe_epochs: epochs after which the bounds are kept and logged.
        alarm: warn of layers whose steps ε shortens, by an EpsilonWarning and a line of Lightning's log.

    Raises:
        ObservationError: an argument is out of range. In `Trainer.fit`, before the first step: no optimizer of the
            training can be observed.
    """

    def __init__(self, every: int = 1, probe_epochs: int = 1, alarm: bool = True) -> None:
        super().__init__()
        self._following = Following(every, probe_epochs, alarm)
        self._logged = 0

    @property
    def all_bounds(self) -> tuple[EpsilonBounds | None, ...]:
        """The bounds after `probe_epochs` of each optimizer that can be observed, in the trainer's order."""
        return self._following.kept

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers of the latest fit, with histograms and their trajectory; they answer after it as well."""
        return self._following.observers

    def on_train_start(self, trainer: Any, pl_module: torch.nn.Module) -> None:
        """Observe from here on: optimizers exist, and a checkpoint, if any, is loaded."""
        self._following.attach(trainer.optimizers, pl_module, trainer.global_step, trainer.current_epoch)
        self._logged = trainer.global_step

    def on_train_batch_end(
        self, trainer: Any, pl_module: torch.nn.Module, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Give the loggers a row at the trainer's logging steps; warn where the alarm goes."""
        self._following.count_batch(batch_idx)
        for text in self._following.look():
            self._log([f"epsgrid: {text}"])
            if trainer.is_global_zero:
                warn_anyway(text, EpsilonWarning, stacklevel=2)
        every = trainer.log_every_n_steps
        # Steps of several optimizers are counted together and may pass over a multiple.
        if not (trainer.loggers and every and trainer.global_step // every > self._logged // every):
            return
        self._logged = trainer.global_step
        epoch = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        for prefix, series, row in self._following.series(trainer.global_step, epoch):
            for logger in trainer.loggers if trainer.is_global_zero else ():
                self._following.attempt(_write, logger, prefix, series, row)

    def on_train_epoch_end(self, trainer: Any, pl_module: torch.nn.Module) -> None:
        """Keep the bounds, once the epochs of the probe are done; this is called where an epoch was cut short, too."""
        trained, of, whole = self._following.batch, trainer.num_training_batches, 0
        if trained < of if math.isfinite(of) else trainer.should_stop or 0 <= trainer.max_steps <= trainer.global_step:
            return
        if isinstance(trainer.train_dataloader, DataLoader):  # all of an epoch, also where it trains on fewer
            with suppress(TypeError):  # of unknown length
                whole = len(trainer.train_dataloader)
        if trained >= whole:
            self._following.batch = 0
        self._log(self._following.end_epoch())

    def on_train_end(self, trainer: Any, pl_module: torch.nn.Module) -> None:
        """Keep the bounds of a training that was shorter than the probe, and stop observing."""
        self._log(self._following.keep_bounds())
        self._following.detach()

    def on_exception(self, trainer: Any, pl_module: torch.nn.Module, exception: BaseException) -> None:
        """Stop observing; the observers still answer."""
        self._following.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the kept bounds for a checkpoint."""
        return {_STATE: self._following.to_json()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the kept bounds from a checkpoint."""
        self._following.load_json(state_dict.get(_STATE, ""))

    def _log(self, lines: list[str]) -> None:
        log = importlib.import_module(f"{_PACKAGE}.utilities.rank_zero").rank_zero_info
        for line in lines:
            log(line)


def _write(logger: Any, prefix: str, series: Series, row: dict[str, float]) -> None:
    """Write a row of scalars, and the histograms of a series of one snapshot."""
    logger.log_metrics(row, step=series.steps[-1])
    # TensorBoard and MLflow, which take histograms as well, are known by the object they write with.
    writer = getattr(logger, "experiment", None)
    if hasattr(writer, "add_histogram_raw"):
        Tensorboard(writer).log_histograms(series, prefix)
    elif hasattr(writer, "log_dict") and hasattr(logger, "run_id"):
        Mlflow(writer, logger.run_id).log_histograms(series, prefix)
