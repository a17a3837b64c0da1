"""THE MATHEMATICS: from second moments to an ε range, and from scores to intervals.

    counting     v on its device -> histogram and exact order statistics
    tables       the same for many tensors at once, step after step (with `counting`, what needs torch here)
    histogram    counts of √v̂ over log-spaced bins, mergeable
    series       the same over time: snapshots of all layers
    placement    where ε enters an update, and the ε that a magnitude √v̂ becomes there
    magnitudes   what is measured of a layer, and how an order statistic becomes a bound
    bounds       layers' statistics -> the ε range, with the layers that set it
    variants     the bounds under other choices
    course       the bounds over a probe's steps, and whether they have settled
    rules        what speaks against bounds
    reliability  how far they can be trusted, and why
    estimates    an ε without any sweep
    statistics   means and intervals over seeds

Nothing here reads files, prints or knows of models. This module imports nothing, so that all but the two named can be
used without torch.
"""
