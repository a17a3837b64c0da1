"""ONE TRAINING RUN: the loop, its schedule, its randomness and its checkpoints; and the probe's run.

Whatever the executor, a trial's numbers depend on its settings alone: all randomness is derived from (seed, epoch,
step), and a checkpoint holds everything else, so a run that was killed goes on bit for bit.
"""
