"""One training run: the loop, its learning rates, its randomness and its checkpoints; and the probe's run.

A trial's numbers depend on its settings alone, whatever the executor: all randomness is derived from (seed, epoch,
step), and a checkpoint holds everything else, so a run that was killed goes on bit for bit.
"""
