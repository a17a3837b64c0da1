"""Simulated experiments do not wait for the disk here either."""

from tests.report.conftest import no_waiting_for_the_disk

__all__ = ["no_waiting_for_the_disk"]
