"""What all tests share."""

import torch
from hypothesis import settings

# A loaded machine is no defect: examples have no deadline.
settings.register_profile("epsgrid", deadline=None)
settings.load_profile("epsgrid")

# Tests run side by side, one per core; more threads would only get in each other's way.
torch.set_num_threads(1)
