"""What all tests share."""

import signal

import torch
from hypothesis import settings

# A loaded machine is no defect: examples have no deadline.
settings.register_profile("epsgrid", deadline=None)
settings.load_profile("epsgrid")

# Tests run side by side, one per core; more threads would only get in each other's way.
torch.set_num_threads(1)

# Where the tests were started by nohup or in the background, these are ignored, and commands would inherit that.
for each, usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, usual)
