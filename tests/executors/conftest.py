from collections.abc import Iterator
from multiprocessing import forkserver

import pytest

from epsgrid.executors import Job, local
from tests.executors.jobs import StopWhen, Told, work


@pytest.fixture(scope="package", autouse=True)
def light_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A fork server that has not imported torch, for these tests only: starting it takes no seconds."""
    folder = str(tmp_path_factory.mktemp("light_server"))
    forkserver._forkserver._stop()
    local.run([Job(folder, "return")], work, slots=1, notify=Told(), stop=StopWhen(), preload=("no_such_module",))
    yield
    forkserver._forkserver._stop()
