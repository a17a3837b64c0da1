"""OBSERVE ANY TRAINING: what ε is compared with, in our own trials and in anybody's loop.

Where v is and which layers there are:

    adapters.py      where each optimizer keeps v and adds ε; others are registered here
    layers.py        an optimizer's parameters by name
    kinds.py         what each of them does: convolution, bias, embedding, …
    roster.py        the same as training goes on: groups are replaced, parameters added

Now, and over time:

    reading.py       √v̂ of every layer, as the optimizer's state stands
    shares.py        which share of the entries lies above an ε
    observer.py      `observe`: what can be asked of a training
    watch.py         what happens after each of its steps
    history.py       what is kept of those steps
    nonfinite.py     NaN and infinite entries: counted and told
    distributed.py   the same over all ranks of a job; collective.py adds their counts

The probe, which looks before training:

    frozen.py        `probe`: an epoch of gradients through a user's optimizer, weights frozen
    probing.py       a probe under way, and its reliability
    rounding.py      entries whose gradient is nothing but rounding noise; recomputing.py finds them
    shadows.py       the bounds under other betas from the same gradients
    understudy.py    second optimizers with a state of their own
    restoring.py     leave a model as it was found

Beside both: trackers.py writes curves to TensorBoard, MLflow and W&B.
"""
