"""Download published files with pooch, which retries, checks the MD5 and moves a complete file into place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from epsgrid.errors import DataError

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Remote:
    """A published file, and the MD5 of its bytes, hex; None if no checksum is published."""

    url: str
    md5: str | None

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class Finding:
    """The result of checking one part of a data set; `problem` is None if the part is as it should be."""

    what: str
    problem: str | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set of `download_mb` millions of bytes that can be downloaded, and the tasks that train on it.

    `find` returns its place in the first of some folders that has it, complete or not, or None; `fetch` puts it into a
    folder and returns whether it was missing, or raises DataError, which says how to get it by hand; `check` checks it
    at its place, part by part.
    """

    name: str
    contents: str
    files: tuple[Remote, ...]
    download_mb: int
    licence: str
    tasks: tuple[str, ...]
    find: Callable[[Sequence[Path]], Path | None]
    fetch: Callable[[Path, Fetcher], bool]
    check: Callable[[Path], Iterator[Finding]]


@dataclass(frozen=True)
class Fetcher:
    """Settings of downloads; a failed transfer is repeated `retries` times, after 1, 2, 3, … seconds.

    `say` is called with a line about what is being done, and `on_bytes(name, done, of)` with the progress of a file,
    where `of` is 0 if its size is unknown.
    """

    say: Callable[[str], None] = lambda line: None
    on_bytes: Callable[[str, int, int], None] = lambda name, done, of: None
    retries: int = 3

    def get(self, wanted: Mapping[Path, Remote]) -> bool:
        """Download the files that are not in the place where each belongs, and return whether any was missing.

        Raises DataError where a place has another file, or one cannot be downloaded or written, with how to get all
        that are still missing by hand.
        """
        for place, remote in wanted.items():
            if place.exists() and (problem := md5_problem(place, remote.md5)):
                raise DataError(f"{place}: {problem}; move it away, then run the same command again")
        missing = {place: remote for place, remote in wanted.items() if not place.exists()}
        for place, remote in missing.items():
            try:
                self._download(remote, place)
            except (OSError, ValueError) as error:  # the errors of requests are OSErrors
                lines = [f"{remote.url}: {_reason(error, place)}"]
                lines.append("To do it by hand, get what is missing elsewhere, put it here, and run the command again:")
                for left, other in missing.items():
                    if not left.exists():
                        known = f"MD5 {other.md5}" if other.md5 else "no checksum is published"
                        lines.append(f"  {other.url} -> {left} ({known})")
                raise DataError("\n".join(lines)) from error
        return bool(missing)

    def _download(self, remote: Remote, place: Path) -> None:
        import pooch

        def download(url: str, output: str, _: object) -> None:
            self.say(f"fetching {url}")
            answers: list[Any] = []
            downloader = pooch.HTTPDownloader(
                _Progress(lambda done, of: self.on_bytes(remote.name, done, of)),
                _CHUNK_BYTES,
                timeout=_TIMEOUT_S,
                headers={"Accept-Encoding": "identity"},  # uncompressed, so that the announced size is that of the file
                hooks={"response": lambda answer, **_: answers.append(answer)},
            )
            try:
                downloader(url, output, None)
            finally:
                for answer in answers:  # pooch leaves the connection open if it does not read to the end
                    answer.close()

        pooch.get_logger().setLevel("ERROR")  # `say` reports instead
        registry = {place.name: remote.md5 and f"md5:{remote.md5}"}
        urls = {place.name: remote.url}
        store = pooch.create(place.parent, "", registry=registry, urls=urls, retry_if_failed=self.retries)
        store.fetch(place.name, downloader=download)


class _Progress:
    """The progress bar that pooch updates; it rounds the last piece of a file up, and resets the bar at the end."""

    total = 0

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._done = 0

    def update(self, count: int) -> None:
        done = min(self._done + count, self.total or self._done + count)
        if done > self._done:
            self._report(done, self.total)
        self._done = done

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _reason(error: Exception, place: Path) -> str:
    import requests

    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return f"no connection, is this machine offline? ({error})"
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return f"cannot write into {place.parent}: {error}; make room there, or name another folder with --dir"
    return str(error)


def md5_problem(file: Path, md5: str | None) -> str | None:
    """Return what is wrong with a file according to its MD5; None if it is right, or if `md5` is None."""
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
