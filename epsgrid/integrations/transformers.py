"""A callback for the Trainer of transformers: the bounds of ε after the first epoch, and √v̂ among a training's curves.

    from epsgrid.integrations.transformers import EpsilonCallback

    epsilon = EpsilonCallback()
    trainer = Trainer(model, arguments, train_dataset=examples, callbacks=[epsilon])
    trainer.train()
    epsilon.bounds.low.decade, epsilon.bounds.high.decade

It changes nothing: the weights are the same, bit for bit. At the trainer's own logging steps the scalars of
`observing.trackers` are added to what it logs, and so reach `trainer.state.log_history` and the trainer's reporters, to
W&B, TensorBoard, MLflow and the like. Where ε shortens the steps of layers there is a warning, see
`observing.diagnosis`.

In a distributed job all ranks count together. Imported before `transformers`, this module also repairs a torchvision
that cannot be imported beside a torch without CUDA.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from epsgrid.integrations._following import BoundsAndDiagnosis, Following, repair_torchvision
from epsgrid.observing.diagnosis import EpsilonWarning
from epsgrid.observing.observer import Observer
from epsgrid.observing.trackers import import_extra
from epsgrid.streams import print_anyway, warn_anyway

repair_torchvision()
if TYPE_CHECKING:
    _Callback = object
else:
    _callbacks = import_extra("transformers", "transformers.trainer_callback")

    class _Callback(_callbacks.TrainerCallback, _callbacks.ExportableState):
        """A callback whose state the trainer puts in its checkpoints."""


class EpsilonCallback(BoundsAndDiagnosis, _Callback):
    """Observes the optimizer of `Trainer.train` and keeps its bounds after the first epoch.

    A training that stops before gets the bounds as they are then, which say so, and are measured again when it goes on
    to the end of these epochs. A checkpoint holds the kept bounds, so a resumed training has them too, with or without
    `restore_callback_states_from_checkpoint` (which makes a new callback: look at the trainer's, not at yours). A
    training resumed beyond `probe_epochs` from a checkpoint without them gets none.

    The Trainer does not report an exception to its callbacks: after one, `close` stops observing.

    Args:
        every: number of optimizer steps from one count to the next.
        probe_epochs: epochs after which the bounds are kept and printed.
        alarm: warn of layers whose steps ε shortens, by an EpsilonWarning and a line of the trainer's log.

    Raises:
        ObservationError: an argument is out of range. In `Trainer.train`, before the first step: the optimizer cannot
            be observed.
    """

    def __init__(self, every: int = 1, probe_epochs: int = 1, alarm: bool = True) -> None:
        super().__init__()
        self._following = Following(every, probe_epochs, alarm)

    @property
    def observer(self) -> Observer | None:
        """The observer of the latest training, with histograms and their trajectory; it answers after it as well."""
        return self._following.observers[0] if self._following.observers else None

    def close(self) -> None:
        """Stop observing, if it has begun."""
        self._following.detach()

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **_: Any
    ) -> None:
        """Observe from here on: the optimizer exists, and a checkpoint, if any, is loaded."""
        self.close()
        # Reporters see what is added to a log only after this callback, and the trainer puts it behind them; the only
        # way to its list of callbacks is by its caller, the CallbackHandler, which may go on after the exchange.
        caller: Any = sys._getframe(1)
        while caller.f_locals.get("self") is self:  # a subclass
            caller = caller.f_back
        callbacks = getattr(caller.f_locals.get("self"), "callbacks", [])
        if self in callbacks:
            callbacks.remove(self)
            callbacks.insert(0, self)
        if state.global_step:
            # The trainer itself restores a callback's state only when it is asked to.
            stored = state.stateful_callbacks.get(type(self).__name__)
            for entry in stored if isinstance(stored, list) else [stored]:
                if entry:
                    self.kept = entry["attributes"]["kept"]
        self._following.attach([optimizer], model, state.global_step, state.epoch or 0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **options: Any) -> None:
        """Add to the numbers that the trainer logs."""
        if not logs or "loss" not in logs:
            return
        for *_, row in self._following.series(state.global_step, state.epoch):
            logs.update(row)
            if state.log_history:
                state.log_history[-1].update(row)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Warn where the alarm goes."""
        for text in self._following.look():
            if state.is_world_process_zero:
                logging = import_extra("transformers", "transformers.utils.logging")
                logging.get_logger("transformers.trainer").warning(f"epsgrid: {text}")
                warn_anyway(text, EpsilonWarning, stacklevel=2)

    def on_epoch_end(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **_: Any) -> None:
        """Keep the bounds, once the epochs of the probe are done; this is called where an epoch was cut short, too."""
        try:  # the trainer adds fractions of an epoch
            self._following.batch = round(state.epoch * len(train_dataloader)) % len(train_dataloader)
        except TypeError:  # of unknown length: the trainer makes up an epoch of `max_steps`
            self._following.batch = int(control.should_training_stop or control.should_epoch_stop)
        if not self._following.batch:
            self._print(state, self._following.end_epoch())

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the bounds of a training that was shorter than the probe, and stop observing."""
        self._print(state, self._following.keep_bounds())
        self.close()

    def state(self) -> dict[str, Any]:
        """Return the arguments and the kept bounds for a checkpoint, in the form that the trainer wants."""
        arguments = {name: getattr(self._following, name) for name in ("every", "probe_epochs", "alarm")}
        return {"args": arguments, "attributes": {"kept": self.kept}}

    @property
    def kept(self) -> str:
        """The kept bounds as JSON; the trainer sets it from a checkpoint."""
        return self._following.to_json()

    @kept.setter
    def kept(self, text: str) -> None:
        self._following.load_json(text)

    def _print(self, state: Any, lines: list[str]) -> None:
        for line in lines:
            if state.is_world_process_zero:
                print_anyway(line)
