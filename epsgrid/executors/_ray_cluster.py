"""Join a Ray cluster for the time of a sweep: the one at an address, or one started on this machine for it.

The own cluster listens on the loopback device only, asks a token of whoever connects (Ray 2.52 and newer), reports no
usage, and opens no connection to the outside. Without a certain file in the home folder Ray would ask cloud providers'
addresses where it runs, even with statistics off; so Ray's processes get a home folder made for them, and slots get the
true one back.

Run as `python -m epsgrid.executors._ray_cluster CPUS FOLDER`, this module is the process that owns such a cluster. It
ends the cluster when its standard input is closed: when the command says so or is gone, however it ended. It is a
session of its own, so that Ctrl-C and SIGTERM to the command's group leave the cluster up until trials have saved.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from epsgrid.errors import ExecutionError
from epsgrid.executors import StopRequest
from epsgrid.executors._process import python_environment
from epsgrid.spec.model import Ray
from epsgrid.store.atomic import write_text

TRUE_HOME = "EPSGRID_RAY_HOME"
"""In the environment of an own cluster's slots: the home folder of the user."""

_START_S = 180.0
_END_S = 20.0
_ANSWER_S = 10.0
_POLL_S = 0.1
_OBJECT_STORE_BYTES = 80 * 2**20  # nearly the least that Ray accepts: only names of jobs go through it
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # means to Ray: this machine alone, so 127.0.0.1
}


@contextlib.contextmanager
def joined(settings: Ray, slots: int, stop: StopRequest) -> Iterator[ModuleType | None]:
    """Connect to a cluster while inside.

    A connection that this process has already is used and kept, whatever `settings` say.

    Args:
        settings: `address` of a cluster, or None for an own one.
        slots: trials at once for which an own cluster has processors; Ray counts them, they need not exist.
        stop: asked while an own cluster starts.

    Yields:
        The package ray; None when a stop was asked for before the cluster was up.

    Raises:
        ExecutionError: Ray is not installed, nothing answers at the address, or no cluster could be started.
    """
    if settings.address is None and "ray" not in sys.modules:  # Ray reads the token when it is first loaded
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if os.environ["RAY_AUTH_MODE"] == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
    except ImportError as error:
        raise ExecutionError(
            f"execution.executor: ray needs the package ray ({error}); `pip install 'epsgrid[ray]'` brings it"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    with contextlib.ExitStack() as stack:
        address = settings.address
        if address is None:
            address = stack.enter_context(_own_cluster(math.ceil(slots * settings.cpus), stop))
            if address is None:
                yield None
                return
            # Otherwise Ray replaces 127.0.0.1 by an address that others can reach. The variable in _ENVIRONMENT says
            # the same, but only to a process that has not loaded Ray yet.
            stack.enter_context(_changed(ray._private.ray_constants, "ENABLE_RAY_CLUSTER", False))
        _connect(ray, address)
        stack.callback(ray.shutdown)
        # `log_to_driver=False` is about workers. This is about Ray's daemons, which write pages where a node is lost.
        stack.enter_context(_changed(ray._private.worker, "_worker_logs_enabled", False))
        yield ray


def _connect(ray: ModuleType, address: str) -> None:
    """Connect to the cluster at an address; signal handlers stay the command's, which Ray would replace."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdecimal() and "/" not in host:  # Ray would try for minutes to reach HOST:PORT
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types
        raise ExecutionError(
            f"no Ray cluster could be joined at {address} ({first_line(error)}); see that it runs, with the same"
            " versions of Python and Ray as here, or leave out execution.ray.address to have one on this machine"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _changed(module: Any, name: str, value: object) -> Iterator[None]:
    """Give a module's variable another value while inside."""
    before = getattr(module, name, None)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def _own_cluster(cpus: int, stop: StopRequest) -> Iterator[str | None]:
    """Keep a cluster on this machine; yield its address, or None when a stop was asked for before it was up."""
    # Ray makes sockets some 64 characters below this folder, and a socket's path ends at 107: hence /tmp. A worker may
    # still write its log at the end, hence `ignore_cleanup_errors`.
    with tempfile.TemporaryDirectory(prefix="epsgrid-ray-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder, log = Path(name), Path(name) / "head.log"
        (folder / "ray_bootstrap_config.yaml").write_text("{}")
        homes = {"HOME": name, TRUE_HOME: os.environ.get("HOME", "")}
        # Where Ray was loaded before a token could be chosen, this process has none to show.
        environment = {"RAY_AUTH_MODE": "disabled"} | dict(os.environ) | _ENVIRONMENT | python_environment() | homes
        with log.open("wb") as output:
            head = subprocess.Popen(
                [sys.executable, "-m", "epsgrid.executors._ray_cluster", str(cpus), name],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        address = folder / "address"
        deadline = time.monotonic() + _START_S
        try:
            while not address.exists() and not stop.level():
                if head.poll() is not None or time.monotonic() > deadline:
                    error = log.read_text(encoding="utf-8", errors="replace").strip()[-4000:]
                    raise ExecutionError(f"no Ray cluster could be started on this machine; Ray reports:\n{error}")
                time.sleep(_POLL_S)
            yield address.read_text() if address.exists() else None
        finally:
            assert head.stdin is not None
            with contextlib.suppress(OSError):
                head.stdin.close()
            try:
                head.wait(_END_S if address.exists() else 0)  # one that is not up yet would take long to end
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)
                head.wait()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; Ray adds paragraphs."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _be_owner(cpus: int, folder: Path) -> None:
    """Start a cluster, write its address into the folder, wait for the end of standard input, end the cluster."""
    import ray

    ray.init(
        num_cpus=cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(folder),
    )
    write_text(folder / "address", ray.get_runtime_context().gcs_address)
    sys.stdin.read()
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # the command does so too, unless it was killed


if __name__ == "__main__":
    _be_owner(int(sys.argv[1]), Path(sys.argv[2]))
