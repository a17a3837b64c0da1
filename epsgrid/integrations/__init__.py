"""OBSERVE TRAINING RUN BY OTHERS: callbacks for training frameworks.

    lightning.py       EpsilonCallback for Lightning's Trainer
    transformers.py    EpsilonCallback for the Hugging Face Trainer
    _following.py      what the two callbacks have in common

Each file needs the package it is named after, an optional extra: `pip install 'epsgrid[lightning]'`. Curves are written
by `epsgrid.observing.trackers`.
"""
