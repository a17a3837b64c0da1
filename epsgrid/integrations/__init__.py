"""OBSERVE TRAINING RUN BY OTHERS: callbacks for training frameworks, loggers they write to.

Each file needs the package it is named after, an optional extra: `pip install 'epsgrid[lightning]'`.
"""
