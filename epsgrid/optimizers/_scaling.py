"""An optimizer's options and its ε at another batch size, by what the optimizer's file declares in `SCALING`."""

from __future__ import annotations

from fractions import Fraction
from typing import TypeVar

from pydantic import ValidationError

from epsgrid import optimizers, plugins
from epsgrid.codec import shown
from epsgrid.errors import ScalingError
from epsgrid.numerics import scaling
from epsgrid.numerics.scaling import NoScaling, Number, Rule, Scaling
from epsgrid.spec.options import OptimizerOptions

_Options = TypeVar("_Options", bound=OptimizerOptions)


def _scalable() -> tuple[str, ...]:
    """Return the names of our optimizers that the square-root rule is derived for."""
    return tuple(name for name in plugins.names("optimizers") if isinstance(optimizers.load(name).SCALING, Scaling))


def scaling_of(options: OptimizerOptions) -> Scaling:
    """Return what the square-root rule scales in an optimizer.

    Raises:
        ScalingError: the rule is not derived for this optimizer, or not for one of these options.
    """
    found = getattr(optimizers.load(options.name), "SCALING", NoScaling("its file declares no SCALING"))
    if not isinstance(found, Scaling):
        raise ScalingError(
            f"optimizer.name: the square-root rule is not derived for {options.name!r}: {found.why};"
            f" it is derived for: {', '.join(_scalable())}"
        )
    for field, value in found.requires.items():
        if getattr(options, field) != value:
            raise ScalingError(
                f"optimizer.{field}: the square-root rule is derived for {options.name!r} with {field}: {shown(value)}"
                f" only, got {shown(getattr(options, field))}; change it, or take another rule"
            )
    return found


def _decays_of(options: OptimizerOptions) -> tuple[float, ...]:
    """Return the decays of an optimizer's averages, that of v last."""
    values = (getattr(options, field) for field in scaling_of(options).decays)
    return tuple(beta for value in values for beta in (value if isinstance(value, tuple) else (value,)))


def is_decoupled(options: OptimizerOptions) -> bool:
    """Return whether the weight decay is kept out of the gradient; raises ScalingError as `scaling_of`."""
    switch = scaling_of(options).decoupled
    return bool(getattr(options, switch)) if isinstance(switch, str) else switch


def noise_factor(options: OptimizerOptions, kappa: Number, *, half_life: bool = False) -> Fraction:
    """Return by what √v̂ changes beside 1/√κ at κ times the batch size, because a decay does: 1 but for a residual's.

    Raises:
        ScalingError: as `scaled_options`.
    """
    if not scaling_of(options).is_residual:
        return Fraction(1)
    beta1 = _decays_of(options)[0]
    return scaling.residual_factor(beta1, scaling.scaled_decay(beta1, kappa, half_life=half_life))


def scaled_options(options: _Options, kappa: Number, *, half_life: bool = False) -> _Options:
    """Return an optimizer's options at κ times the batch size, by the square-root rule; `half_life` makes decays β^κ.

    Raises:
        ScalingError: the rule is not derived for the optimizer, κ is more than it allows, or the optimizer refuses the
            decays that come out.
    """
    values = options.model_dump()
    for field in scaling_of(options).decays:
        betas = values[field] if isinstance(values[field], tuple) else (values[field],)
        scaled = tuple(scaling.scaled_decay(beta, kappa, half_life=half_life) for beta in betas)
        values[field] = scaled if isinstance(values[field], tuple) else scaled[0]
    if is_decoupled(options):
        factor = noise_factor(options, kappa, half_life=half_life)
        if factor:  # where it is 0, so is the decay β₁, which is refused below
            values["weight_decay"] = _times(scaling.scaled_learning_rate(values["weight_decay"], kappa), 1 / factor)
    try:
        return type(options).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, ("optimizer", *first["loc"])))
        raise ScalingError(
            f"{field}: the square-root rule with κ = {float(kappa):.6g} makes it {first['input']!r}, which"
            f" {options.name!r} refuses: {first['msg']}; take a smaller κ, or the half-life form β^κ"
        ) from error


def scaled_learning_rate(
    options: OptimizerOptions, learning_rate: float, kappa: Number, rule: Rule = "sqrt", *, half_life: bool = False
) -> float:
    """Return an optimizer's learning rate at κ times the batch size by any of the rules.

    Raises:
        ScalingError: as `scaled_options`, where the rule is a square-root rule.
    """
    scaled = scaling.scaled_learning_rate(learning_rate, kappa, rule)
    return _times(scaled, noise_factor(options, kappa, half_life=half_life)) if scaling.is_square_root(rule) else scaled


def scaled_epsilon(
    options: OptimizerOptions, epsilon: float, kappa: Number, rule: Rule = "sqrt", *, half_life: bool = False
) -> float:
    """Return an optimizer's own ε at κ times the batch size; only "sqrt" changes it.

    Raises:
        ScalingError: the square-root rule is not derived for the optimizer.
    """
    if rule != "sqrt":
        return epsilon
    place, decay = scaling_of(options).epsilon, _decays_of(options)[-1]
    scaled = scaling.scaled_epsilon(epsilon, kappa, rule, place=place, decay=decay, half_life=half_life)
    factor = noise_factor(options, kappa, half_life=half_life)
    return _times(scaled, factor if place == "outside" else factor**2)


def _times(number: float, factor: Fraction) -> float:
    return float(scaling.exactly(number) * factor)


def require_reach(options: OptimizerOptions, base: int, batch_size: int, *, half_life: bool = False) -> None:
    """Refuse a batch size that the square-root rule does not reach from `base`; the half-life form reaches all.

    Raises:
        ScalingError: κ·(1 − β) is more than 1; the message has the largest κ and batch size. Or see `scaling_of`.
    """
    smallest = min(_decays_of(options))
    left_out = 1 - scaling.exactly(smallest)
    most = int(base / max(left_out - scaling.ROUNDING, scaling.ROUNDING))
    if batch_size > most and not half_life:
        raise ScalingError(
            f"training.batch_size: from {base:,} to {batch_size:,} is κ = {batch_size / base:.6g}, and with a decay of"
            f" {smallest:g} the square-root rule ends at κ = {float(1 / left_out):.6g}, a batch of {most:,}: κ·(1 − β)"
            " may not be more than 1. Begin at a larger base batch, or take the half-life form β^κ, which has no end"
            " (--half-life)"
        )
