"""Import torchvision beside a CPU-only torch.

Torchvision's wheel from the registry is built for CUDA, and importing it beside a CPU-only torch ends with "operator
torchvision::nms does not exist", although data sets and transforms need no operator. Only then, the two that the import
asks for are declared, and torchvision is imported again; beside a healthy one, that would abort the process.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from epsgrid.errors import DataError

_declarations: Any = None
"""The library that declares the operators; it is kept because the declarations end with it."""


def import_torchvision() -> Any:
    """Return the module torchvision; DataError where it is not installed."""
    global _declarations
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise DataError(
            f"torchvision is needed to read its copy of a data set, and cannot be imported ({error});"
            " `pip install torchvision`, or use an image folder"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]  # it is half imported
    from torch.library import Library

    _declarations = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    _declarations.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declarations.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return importlib.import_module("torchvision")
