"""OBSERVE TRAINING RUN BY OTHERS: callbacks for training frameworks, loggers they write to.

    lightning.py       EpsilonCallback for Lightning's Trainer
    transformers.py    EpsilonCallback for the Hugging Face Trainer
    loggers.py         snapshots to TensorBoard and MLflow
    _following.py      what the two callbacks have in common

Each file needs the package it is named after, an optional extra: `pip install 'epsgrid[lightning]'`.
"""
