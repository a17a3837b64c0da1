"""Errors of a want of memory, as torch, Python and the system raise them."""

import errno

import pytest
import torch

from epsgrid.trials.memory import peak_memory, ran_out

TOO_MUCH = 2**50


def _raised(make) -> BaseException:
    with pytest.raises(BaseException) as caught:
        make()
    return caught.value


def _hidden():
    try:
        torch.empty(TOO_MUCH)
    except RuntimeError as error:
        raise ValueError("something else") from error


@pytest.mark.parametrize(
    ("make", "whose"),
    [
        (lambda: torch.empty(TOO_MUCH), "machine"),
        (lambda: bytearray(TOO_MUCH), "machine"),
        (_hidden, "machine"),
        (lambda: torch.empty(2).view(3), None),
    ],
)
def test_what_is_really_raised(make, whose):
    assert ran_out(_raised(make)) == whose


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "device"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"), "device"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "device"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "machine"),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (ValueError("CUDA error: out of memory"), None),
        (RuntimeError("CUDA error: device-side assert triggered"), None),
    ],
)
def test_errors_by_kind_and_words(error, whose):
    assert ran_out(error) == whose


def test_an_error_that_came_from_itself_ends_the_search():
    error, other = ValueError("one"), ValueError("two")
    error.__cause__, other.__cause__ = other, error
    assert ran_out(error) is None


def test_the_peak_is_that_of_a_cuda_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 12345)
    assert peak_memory(torch.device("cuda")) == {"cuda_peak_bytes": 12345}
    assert peak_memory(torch.device("cpu")) == {}
