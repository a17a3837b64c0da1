"""The one safe way to import torchvision.

Its wheel from the registry is built for CUDA. Beside a CPU-only torch its compiled operators cannot be loaded, and the
import ends with "operator torchvision::nms does not exist", though data sets and transforms need none of them. Then,
and only then, the two operators that the import asks for are declared (not defined), and torchvision is imported
again. Declaring them before a healthy torchvision is imported would abort the process.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from epsgrid.errors import DataError

_declarations: Any = None
"""What declares the operators; kept, because its end would take the declarations back."""


def import_torchvision() -> Any:
    """Return the module torchvision.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise DataError(
            f"torchvision is needed to read or download its copy of a data set, and cannot be imported ({error});"
            " `pip install torchvision`, or use an image folder"
        ) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    _forget_half_imported()
    _declare_operators()
    return importlib.import_module("torchvision")


def _forget_half_imported() -> None:
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]


def _declare_operators() -> None:
    global _declarations
    from torch.library import Library

    _declarations = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    _declarations.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declarations.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
