"""Join a Ray cluster for the time of a sweep: the one at an address, or one of this machine's own, made for it.

The own cluster listens on the loopback device only, asks a token of whoever connects (Ray 2.52 and newer), reports no
usage, and opens no connection to the outside. Ray would ask cloud providers' addresses where it is, statistics off or
not, unless a file in the home folder tells it; so Ray's processes get a home folder made for them, and slots get the
true one back.
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

from epsgrid.errors import ExecutionError
from epsgrid.executors import StopRequest, _ray_head
from epsgrid.spec.model import Ray

_START_S = 180.0
_END_S = 20.0
_ANSWER_S = 10.0
_POLL_S = 0.1
_LONGEST_FOLDER = 42  # Ray makes sockets some 64 characters below, and a socket's path ends at 107
_NO_USAGE_REPORTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_PROMPT_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",
}
_PRINTS = "_worker_logs_enabled"
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # for Ray that means: this machine alone, so 127.0.0.1


def import_ray() -> ModuleType:
    """Return the package `ray`.

    Raises:
        ExecutionError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ExecutionError(
            f"execution.executor: ray needs the package ray ({error}); `pip install 'epsgrid[ray]'` brings it"
        ) from error
    module: ModuleType = ray
    return module


@contextlib.contextmanager
def joined(settings: Ray, slots: int, stop: StopRequest) -> Iterator[dict[str, str | None] | None]:
    """Be connected to a cluster inside.

    A connection that this process has already is used and kept, whatever `settings` say.

    Args:
        settings: `address` of a cluster, or None for an own one.
        slots: how many trials at once an own cluster has processors for; they are counted, and need not exist.
        stop: asked while an own cluster starts.

    Yields:
        Variables that slots must set in their environment, None for one to remove; None instead of them when a stop
        was asked for before the cluster was there.

    Raises:
        ExecutionError: Ray is not installed, nothing answers at the address, or no cluster could be started.
    """
    if settings.address is None:
        _choose_token()
    ray = import_ray()
    if ray.is_initialized():
        yield {}
    elif settings.address is not None:
        with _connected(ray, settings.address):
            yield {}
    else:
        with _own_cluster(math.ceil(slots * settings.cpus), stop) as address:
            if address is None:
                yield None
                return
            with _loopback_meant(ray), _connected(ray, address):
                yield {"HOME": os.environ.get("HOME")}


@contextlib.contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Be a driver of the cluster at an address; signals stay the command's own, though Ray would take them over."""
    _require_answer(address)
    with _signals_kept():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises what its many parts raise
            raise _not_joined(address, error) from error
    try:
        with _only_our_words(ray):
            yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _only_our_words(ray: ModuleType) -> Iterator[None]:
    """Keep Ray from printing to stderr what its daemons write, pages of it where a node is lost: we say so in a line.

    `log_to_driver=False` is about what workers print, and leaves these. Where a version of Ray has no such switch, it
    prints.
    """
    worker = ray._private.worker
    before = getattr(worker, _PRINTS, None)
    if before is None:
        yield
        return
    setattr(worker, _PRINTS, False)
    try:
        yield
    finally:
        setattr(worker, _PRINTS, before)


def _require_answer(address: str) -> None:
    """See that somebody listens at HOST:PORT, which Ray would try again and again to reach for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
        except OSError as error:
            raise _not_joined(address, error) from error


def _not_joined(address: str, error: Exception) -> ExecutionError:
    return ExecutionError(
        f"no Ray cluster could be joined at {address} ({first_line(error)}); see that it runs, with the same versions"
        " of Python and Ray as here, or leave out execution.ray.address to have one on this machine"
    )


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _loopback_meant(ray: ModuleType) -> Iterator[None]:
    """Let Ray take 127.0.0.1 for what it is; otherwise it puts an address that others can reach in its place.

    A variable of the environment says the same, but only to a process that has not loaded Ray yet.
    """
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _own_cluster(cpus: int, stop: StopRequest) -> Iterator[str | None]:
    """Keep a cluster on this machine; yield its address, or None when a stop was asked for before it was up."""
    with _short_folder() as folder:
        (folder / "ray_bootstrap_config.yaml").write_text("{}")
        with (folder / "head.log").open("wb") as log:
            head = subprocess.Popen(
                [sys.executable, "-m", "epsgrid.executors._ray_head", str(cpus), str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(folder),
                start_new_session=True,
            )
        try:
            yield _address(head, folder, stop)
        finally:
            _end(head, patience_s=_END_S if (folder / _ray_head.ADDRESS).exists() else 0)


def _address(head: subprocess.Popen[bytes], folder: Path, stop: StopRequest) -> str | None:
    deadline = time.monotonic() + _START_S
    told = folder / _ray_head.ADDRESS
    while not told.exists():
        if stop.level():
            return None
        if head.poll() is not None or time.monotonic() > deadline:
            log = (folder / "head.log").read_text(encoding="utf-8", errors="replace").strip()
            raise ExecutionError(f"no Ray cluster could be started on this machine; Ray's own words:\n{log[-4000:]}")
        time.sleep(_POLL_S)
    return told.read_text()


def _end(head: subprocess.Popen[bytes], patience_s: float) -> None:
    """Let the cluster end, and see that it has; one that is not up yet would take as long as to come up."""
    assert head.stdin is not None
    with contextlib.suppress(OSError):
        head.stdin.close()
    try:
        head.wait(patience_s)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()


@contextlib.contextmanager
def _short_folder() -> Iterator[Path]:
    """Make a folder whose name is short enough for Ray; what is left in it afterwards is removed."""
    name = tempfile.mkdtemp(prefix="epsgrid-ray-")
    if len(name) > _LONGEST_FOLDER:
        Path(name).rmdir()
        name = tempfile.mkdtemp(prefix="epsgrid-ray-", dir="/tmp")
    try:
        yield Path(name)
    finally:
        shutil.rmtree(name, ignore_errors=True)  # a worker may still write its log: what it leaves is small


def _choose_token() -> None:
    """Set the token of own clusters in our environment, which Ray reads when it is first loaded and never again."""
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if os.environ["RAY_AUTH_MODE"] == "token":
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _environment(home: Path) -> dict[str, str]:
    """Return the environment of Ray's processes: our modules can be imported, and nobody outside is talked to."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    ours = {"HOME": str(home), "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    # Where Ray was loaded before a token could be chosen, this process has none to show.
    return {"RAY_AUTH_MODE": "disabled"} | dict(os.environ) | _NO_USAGE_REPORTS | _LOOPBACK | ours


def first_line(error: BaseException) -> str:
    """Return what an error of Ray's says, without the paragraphs that follow."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
