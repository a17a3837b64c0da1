"""The examples of a split in use, copied out by index: from mapped arrays on the CPU, on the device elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from epsgrid.data._images import Images


class Examples(Protocol):
    """The examples of a split in use, by index from 0."""

    def __len__(self) -> int: ...

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return pixels, uint8, and labels of the examples at `indices`, a tensor on the task's device."""
        ...


class MappedExamples:
    """Examples read from the mapped arrays batch by batch: shared by all processes of a machine, for the CPU."""

    def __init__(self, images: Images, chosen: NDArray[np.int64]) -> None:
        self._images = images
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copy the examples out of the arrays."""
        import torch

        places = self._chosen[indices.numpy()]
        return torch.from_numpy(self._images.pixels[places]), torch.from_numpy(self._images.labels[places])


class ResidentExamples:
    """Examples that lie on the device as a whole."""

    def __init__(self, images: Images, chosen: NDArray[np.int64], device: torch.device) -> None:
        import torch

        self._pixels = torch.from_numpy(images.pixels[chosen]).to(device)
        self._labels = torch.from_numpy(images.labels[chosen]).to(device)

    def __len__(self) -> int:
        return len(self._labels)

    def take(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather the examples on the device."""
        return self._pixels[indices], self._labels[indices]


def examples_on(device: torch.device, images: Images, chosen: NDArray[np.int64]) -> Examples:
    """Return the examples at the indices `chosen`, in the form that suits the device."""
    return MappedExamples(images, chosen) if device.type == "cpu" else ResidentExamples(images, chosen, device)
