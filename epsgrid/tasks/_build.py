"""The functions `build` that tasks share; importing this imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from epsgrid.tasks import Task

if TYPE_CHECKING:
    import torch


def image_builder(white: float, mean: tuple[float, ...], sd: tuple[float, ...]) -> Callable[..., Task]:
    """Return the function `build` of an image task whose pixels have this mean and deviation; see `ImageTask`."""

    def build(options: Any, data: Any, device: torch.device) -> Task:
        from epsgrid.tasks._images import ImageTask

        return ImageTask(data, device, white=white, mean=mean, sd=sd, augment=getattr(options, "augment", False))

    return build


def build_language(options: Any, data: Any, device: torch.device) -> Task:
    """Bind a language task to its data and a device."""
    from epsgrid.tasks._language import LanguageTask

    return LanguageTask(data, options, device)


def build_translation(options: Any, data: Any, device: torch.device) -> Task:
    """Bind a translation task to its data and a device."""
    from epsgrid.tasks._translation import TranslationTask

    return TranslationTask(options, data, device)
