"""Ranges of the hyperparameters that several optimizers have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Decay = Annotated[float, Field(ge=0, lt=1)]
"""Share of a running average that is kept from one step to the next."""

WeightDecay = Annotated[float, Field(ge=0)]
"""Strength of weight decay; 0 switches it off."""
