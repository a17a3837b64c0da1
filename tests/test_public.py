"""What `import epsgrid` gives: a handful of names, none of which costs anything before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import epsgrid

NAMES = {
    *("EpsilonBounds", "EpsilonWarning", "FunctionTrial", "LogHistogram", "Placement", "SecondMoment"),
    *("load", "observe", "predict", "probe", "read_checkpoint", "register_optimizer", "sweep"),
}


def test_the_public_names_are_these() -> None:
    assert set(epsgrid.__all__) == set(epsgrid._PUBLIC) == NAMES
    assert set(dir(epsgrid)) >= NAMES | {"__version__"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    module, attribute = epsgrid._PUBLIC[name]
    found = getattr(epsgrid, name)
    assert (found.__module__, found.__name__) == (module, attribute)
    assert found.__doc__


def test_another_name_is_told_as_usual() -> None:
    with pytest.raises(AttributeError, match="module 'epsgrid' has no attribute 'observer'"):
        epsgrid.observer  # noqa: B018


def test_importing_epsgrid_imports_neither_torch_nor_numpy() -> None:
    code = "import epsgrid, sys; print(sorted({'torch', 'numpy', 'pydantic', 'numba'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
