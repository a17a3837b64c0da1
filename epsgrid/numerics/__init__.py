"""THE MATHEMATICS: from second moments to an ε range, and from scores to intervals.

    histogram    the bins, and counts of √v̂ over them, mergeable
    counting     v on its device -> histogram and exact order statistics
    tables       the same for many tensors at once, step after step (`_compiled` is a part of it)
    magnitudes   the statistics of a layer, and how an order statistic becomes a bound
    placement    where ε enters an update, and the ε that a magnitude √v̂ becomes there
    series       snapshots of all layers over time
    trajectory   the bounds over a probe's steps, and whether they have settled
    bounds       layers' statistics -> the ε range, with the layers that set it and the confidence in it
    reliability  the rules for that confidence
    estimates    an ε without any sweep
    scaling      settings at another batch size
    fits         the exponent of magnitudes against batch size, and a logistic step
    statistics   means and intervals over seeds

Nothing here reads files, prints or knows of models. This module imports nothing, and only `counting` and `tables` with
its parts import torch.
"""
