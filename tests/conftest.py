"""What all tests share."""

from hypothesis import settings

# A loaded machine is no defect: examples have no deadline.
settings.register_profile("epsgrid", deadline=None)
settings.load_profile("epsgrid")
