"""Output that cannot be written: full disks, readers that have gone, closed streams."""

import errno
import io
import os
import sys
import threading

import pytest

from epsgrid.streams import open_log, print_anyway, protect_standard_streams, writing_problem


def test_a_log_on_a_full_disk_is_lost_and_nothing_else():
    with open_log("/dev/full") as log:
        log.write("one line\n" * 10_000)
    assert log.closed


def test_a_log_that_cannot_be_opened_is_written_nowhere(tmp_path):
    for path in (tmp_path, tmp_path / "missing" / "log.txt"):
        with open_log(path) as log:
            log.write("a line\n")
    assert not list(tmp_path.iterdir())


def test_a_log_is_appended_to_line_by_line_in_any_characters(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("before\n")
    log = open_log(path)
    log.write("ε of caf\udce9\n")
    assert path.read_text(encoding="utf-8") == "before\nε of caf\\udce9\n"
    log.close()


@pytest.fixture
def standard_output(monkeypatch):
    """Return a function that makes a file descriptor this process's stdout, protected."""
    opened = []

    def protected(descriptor):
        opened.append(os.fdopen(descriptor, "w", encoding="utf-8"))
        monkeypatch.setattr(sys, "stdout", opened[-1])
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        protect_standard_streams()
        return sys.stdout

    yield protected
    for stream in opened:
        stream.close()


def test_a_full_disk_is_a_problem_and_a_closed_pipe_is_none(standard_output):
    stream = standard_output(os.open("/dev/full", os.O_WRONLY))
    print("lost" * 10_000)
    assert "No space left" in str(writing_problem(stream))
    reading, writing = os.pipe()
    os.close(reading)
    stream = standard_output(writing)
    print("not wanted" * 10_000)
    assert writing_problem(stream) is None


def test_all_arrives_in_a_pipe_that_another_process_made_non_blocking(standard_output):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    stream = standard_output(writing)
    read = []

    def take():
        with os.fdopen(reading, "rb") as file:
            read.append(file.read(1_000_000))

    reader = threading.Thread(target=take)
    reader.start()
    stream.write("x" * 1_000_000)
    stream.flush()
    reader.join()
    assert len(read[0]) == 1_000_000


@pytest.mark.parametrize("line_buffering", [False, True])
def test_a_line_in_a_program_of_the_users_never_ends_it(monkeypatch, line_buffering):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "ascii", line_buffering=line_buffering))
    print_anyway("ε from 1e-8")
    assert written.getvalue() == b"\\u03b5 from 1e-8\n"
    full = _Full()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, "utf-8", line_buffering=line_buffering))
    print_anyway("ε from 1e-8")
    full.is_full = False
    for gone in (None, io.StringIO()):
        monkeypatch.setattr(sys, "stdout", gone)
        if gone is not None:
            gone.close()
        print_anyway("ε from 1e-8")


class _Full(io.BytesIO):
    is_full = True

    def write(self, data):
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)
