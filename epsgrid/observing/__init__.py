"""OBSERVE ANY TRAINING: what ε is compared with, in our own trials and in anybody's loop.

reading.py       √v̂ of every parameter, as the optimizer's state stands now
"""
