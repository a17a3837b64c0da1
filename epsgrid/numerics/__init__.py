"""THE MATHEMATICS: from second moments to an ε range, and from scores to intervals.

    counting    v on its device -> histogram and exact order statistics (the only file here that needs torch)
    histogram   counts of √v̂ over log-spaced bins, mergeable
    placement   where ε enters an update, and the ε that a magnitude √v̂ becomes there
    bounds      layers' statistics -> the ε range, with the layers that set it
    statistics  means and intervals over seeds

Nothing here reads files, prints or knows of models. This module imports nothing, so that everything but `counting`
can be used without torch.
"""
