"""Check that a task gives text to a language model."""

from __future__ import annotations

from epsgrid.errors import SpecError


def require_text(model: str, inputs: tuple[int, ...]) -> None:
    """See that examples are word ids: a single id has no axes, so a language task's `inputs` are ().

    Args:
        model: name for the error message.
        inputs: shape of one example, without time and batch axes.

    Raises:
        SpecError: `inputs` are anything else.
    """
    if inputs != ():
        raise SpecError(
            f"model {model} reads text, and this task gives examples of shape {inputs};"
            " take a language task such as `ptb`, or another model"
        )
