"""Plug-ins that a test writes, edits and forgets, as a user would from one command to the next."""

import importlib
import sys
from pathlib import Path
from textwrap import dedent

import pytest

NET = """\
from types import SimpleNamespace

from epsgrid.spec.options import ModelOptions


class Options(ModelOptions):
    width: int = 4


def build(options, inputs, outputs):
    from torch import nn

    from user_blocks import activation

    return nn.Sequential(nn.Flatten(), nn.Linear(64, options.width), activation(), nn.Linear(options.width, outputs))


net = SimpleNamespace(Options=Options, build=build)
"""
BLOCKS = "from torch.nn import ReLU as activation\n"


class UserCode:
    """A folder on the path for modules named user_…; one that is written is imported again by the next command."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which a later edit of the same second would not replace

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        self.forget()
        return path

    def forget(self) -> None:
        for module in [name for name in sys.modules if name.startswith("user_")]:
            del sys.modules[module]
        importlib.invalidate_caches()


@pytest.fixture
def user_code(tmp_path, monkeypatch):
    """Modules of a user's, with a model `user_net:net` that imports `user_blocks` when it is built."""
    code = UserCode(tmp_path / "code", monkeypatch)
    code.write("user_net.py", NET)
    code.write("user_blocks.py", BLOCKS)
    yield code
    code.forget()
