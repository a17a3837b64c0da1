"""Get published files: tried again, checked, never half there; and say what to do by hand where there is no network.

pooch gets a file into a folder of its own beside the place where it belongs; when it is whole it is renamed into place.
So an interrupted fetch leaves whole files only, and the next one goes on with those that are missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsgrid.errors import DataError

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16
_WORTH_TRYING_AGAIN = (408, 425, 429)
"""The answers 4xx that may be another a moment later; the others are final."""


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        url: where it is.
        md5: of its bytes, hex; None where no checksum is published.
    """

    url: str
    md5: str | None

    @property
    def name(self) -> str:
        """Its name there."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Finding:
    """What was seen when a part of a data set was checked; `problem` is None where it is as it should be."""

    what: str
    problem: str | None = None


@dataclass(frozen=True)
class Fetcher:
    """How files are fetched.

    Attributes:
        say: told, in a line, what is being done.
        on_bytes: told how far a file is, as `on_bytes(name, done, of)`; `of` is 0 where its size is not known.
        retries: how many times a broken transfer is tried again, after 1, 2, 3, … seconds.
        base_url: where files are looked for by their names instead of at their own addresses.
    """

    say: Callable[[str], None] = lambda line: None
    on_bytes: Callable[[str, int, int], None] = lambda name, done, of: None
    retries: int = 3
    base_url: str | None = None

    def get(self, wanted: Mapping[Path, Remote]) -> bool:
        """See that files are in place; fetch those that are not.

        Args:
            wanted: the files, by the place where each belongs.

        Returns:
            Whether anything had to be fetched.

        Raises:
            DataError: a file in place is another one; or one cannot be fetched or written, and how to get by hand all
                that are still missing.
        """
        missing = {}
        for place, remote in wanted.items():
            if not place.exists():
                missing[place] = remote
            elif problem := md5_problem(place, remote.md5):
                raise DataError(f"{place}: {problem}; move it away, then run the same command again")
        left = dict(missing)
        for place, remote in missing.items():
            try:
                self._get(remote, place)
            except Exception as error:
                if (reason := _reason(error, place)) is None:
                    raise
                raise DataError(f"{self._url(remote)}: {reason}\n{self._by_hand(left)}") from error
            del left[place]
        return bool(missing)

    def _get(self, remote: Remote, place: Path) -> None:
        making = place.parent / f".fetching-{uuid.uuid4().hex}"
        self.say(f"fetching {self._url(remote)}")
        with _new_folders_gone_if_empty(place.parent):
            try:
                making.mkdir(parents=True)
                self._retrieve(remote, making)
                (making / remote.name).replace(place)
            finally:
                shutil.rmtree(making, ignore_errors=True)

    def _retrieve(self, remote: Remote, folder: Path) -> None:
        """Let pooch fetch a file into `folder`, check it, and try again if need be."""
        import pooch

        pooch.get_logger().setLevel("ERROR")  # what there is to tell is told by `say`
        known = remote.md5 and f"md5:{remote.md5}"
        keeper = pooch.create(
            folder,
            "",
            registry={remote.name: known},
            urls={remote.name: self._url(remote)},
            retry_if_failed=self.retries,
        )
        attempts = itertools.count(1)

        def download(url: str, output: str, pooch_: object) -> None:
            if (attempt := next(attempts)) > 1:
                self.say(f"that failed; attempt {attempt} of {self.retries + 1}")
            _download_once(url, output, _Bar(lambda done, of: self.on_bytes(remote.name, done, of)))

        keeper.fetch(remote.name, downloader=download)

    def _url(self, remote: Remote) -> str:
        return f"{self.base_url.rstrip('/')}/{remote.name}" if self.base_url else remote.url

    def _by_hand(self, left: Mapping[Path, Remote]) -> str:
        lines = ["To do it by hand, get what is missing elsewhere, put it here, and run the same command again:"]
        for place, remote in left.items():
            known = f"MD5 {remote.md5}" if remote.md5 else "no checksum is published"
            lines.append(f"  {self._url(remote)} -> {place} ({known})")
        return "\n".join(lines)


@contextlib.contextmanager
def _new_folders_gone_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder, and those above it, at the end if they did not exist before and nothing came into them."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    finally:
        for each in new:
            with contextlib.suppress(OSError):
                each.rmdir()


def md5_problem(file: Path, md5: str | None) -> str | None:
    """Return what is wrong with a file, by its MD5 checksum; None where it is right, or where `md5` is None."""
    if md5 is None:
        return None
    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return None if found == md5 else f"not the published file: MD5 {found}, expected {md5}"


class _RefusedError(Exception):
    """The server's answer is final."""


def _download_once(url: str, output: str, bar: _Bar) -> None:
    import requests
    from pooch import HTTPDownloader

    # without compression the size announced is the size of the file, and a body that breaks off is noticed
    headers = {"Accept-Encoding": "identity"}
    answers: list[requests.Response] = []
    hooks = {"response": lambda response, **_: answers.append(response)}
    download = HTTPDownloader(
        progressbar=bar, chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S, headers=headers, hooks=hooks
    )
    try:
        download(url, output, None)
    except requests.HTTPError as error:
        answer = error.response
        assert answer is not None
        if answer.status_code >= 500 or answer.status_code in _WORTH_TRYING_AGAIN:
            raise
        raise _RefusedError(_answer(answer)) from error
    finally:
        for response in answers:  # one that is not read to its end would keep its connection
            response.close()


class _Bar:
    """What pooch takes for a progress bar."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self.total = 0
        self.done = 0

    def update(self, count: int) -> None:
        """Take `count` more bytes; pooch counts the last, shorter piece as a whole one."""
        self.done = min(self.done + count, self.total) if self.total else self.done + count
        if count:
            self._tell(self.done, self.total)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Do nothing: whoever is told sees the end by the count."""


def _reason(error: Exception, place: Path) -> str | None:
    """Return in words why a fetch failed; None for what only we can cause."""
    import requests

    if isinstance(error, _RefusedError):
        return str(error)
    if isinstance(error, requests.HTTPError):
        return _answer(error.response)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off before the end of the file"
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return f"no connection ({_innermost(error)}); is this machine offline?"
    if isinstance(error, requests.RequestException):
        return str(error)
    if isinstance(error, ValueError):
        return "what came is not the published file, by its checksum: altered on its way, or replaced there"
    if isinstance(error, OSError):
        return f"cannot write into {place.parent}: {error}; make room there, or name another folder with --dir"
    return None


def _answer(response: Any) -> str:
    return f"the server answers {response.status_code} {response.reason}"


def _innermost(error: BaseException) -> str:
    """Return the cause that the wrapped errors of a failed connection all stand for."""
    while True:
        inner = getattr(error, "reason", None) or next(
            (each for each in error.args if isinstance(each, Exception)), None
        )
        if not isinstance(inner, BaseException):
            return str(error).rpartition(": ")[2] or type(error).__name__
        error = inner
