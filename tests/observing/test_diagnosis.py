"""Diagnosis: which layers an ε shortens, in words and as data, and when a warning is given."""

import itertools
import math

import pytest
import torch

from epsgrid.numerics.placement import Placement
from epsgrid.observing.diagnosis import MOMENTUM_SGD, RECOVERED, SHORTENED, Alarm, Diagnosis, arguments_of, diagnose
from epsgrid.observing.layers import Layer
from epsgrid.observing.reading import LayerStatus, Reading, histogram_of


def reading(name: str, magnitudes: list[float], epsilon: float | None = 1e-8, placement: Placement | None = None):
    """Return a layer whose entries have these √v̂."""
    values = torch.tensor(magnitudes) ** 2
    group = {"params": [values], "lr": 1e-3} | ({} if epsilon is None else {"eps": epsilon})
    layer = Layer(name, values, group, "dense")
    return Reading(layer, LayerStatus.MEASURED, values, 1.0, 100.0, placement or Placement.outside())


def diagnosis(*readings: Reading, step: int = 100, noise: tuple[str, ...] = ()) -> Diagnosis:
    counted = [(each, None if each.values is None else histogram_of(each)) for each in readings]
    return diagnose("Adam", step, itertools.starmap(arguments_of, counted), noise)


FINE, SHORT, DROWNED = [1e-6] * 8, [1e-9] * 7 + [1e-7], [1e-10] * 8


def test_layers_are_told_apart_by_how_far_their_steps_are_shortened():
    found = diagnosis(reading("fine", FINE), reading("short", SHORT), reading("drowned", DROWNED))
    fine, short, drowned = found.layers
    assert (fine.finding, short.finding, drowned.finding) == ("", "shortened", "momentum SGD")
    assert fine.damping.mean == pytest.approx(1e-6 / (1e-6 + 1e-8), abs=fine.damping.error)
    assert short.damping.adapting == pytest.approx(1 / 8) and short.damping.adapting > MOMENTUM_SGD
    assert drowned.damping.mean == pytest.approx(1 / 101, abs=drowned.damping.error)
    assert (fine.harmless, short.harmless, drowned.harmless) == (None, 1e-11, 1e-12)
    assert found.damping.mean == pytest.approx(sum(each.damping.mean for each in found.layers) / 3)
    assert [layer.name for layer in found.findings] == ["short", "drowned"]


def test_it_says_what_is_wrong_and_both_remedies():
    found = diagnosis(reading("head.weight", SHORT), reading("drowned", DROWNED))
    short, drowned = map(str, found.layers)
    assert short == (
        "ε = 1e-8 is larger than √v̂ in 88 % of head.weight: its steps are 19 % of what they would be; from 1e-11 on"
        " they are not shortened; a learning rate 5.2 times higher makes up for it"
    )
    assert "in 100 % of drowned: its steps are 0.99 %" in drowned
    assert "those of momentum SGD with learning rate 1e5;" in drowned  # lr/ε
    assert "a learning rate 100 times higher" in drowned
    inside = diagnosis(reading("inside", [1e-6] * 4, 1e-8, Placement.inside())).layers[0]
    assert str(inside).startswith("ε = 1e-8, as much as √v̂ = 1e-4, is larger than √v̂ in 100 % of inside")


def test_a_part_that_stalls_is_a_finding_though_the_mean_is_high():
    """One output of three in units whose gradients are far below ε."""
    found = diagnosis(reading("head.weight", [1e-6] * 6 + [1e-12] * 3)).layers[0]
    assert (found.finding, found.damping.stalled) == ("partly stalled", pytest.approx(1 / 3))
    assert "its steps are 66 % of what they would be, and in 33 % of it less than a tenth; from" in str(found)
    assert diagnosis(reading("a few", [1e-6] * 9 + [1e-12])).layers[0].finding == ""


def test_it_fits_a_screen():
    many = [reading(f"{'a.very.long.module.name.' * 3}{number}.weight", SHORT) for number in range(40)]
    noise = tuple(f"conv{number}.bias" for number in range(5))
    lines = str(diagnosis(*many, reading("fine", FINE), step=12_345, noise=noise)).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[0] == "Adam, step 12,345, ε = 1e-8: 15 % of the entries adapt,"
    assert "Shortened in 40 of 41 layers:" in lines and "  and 28 more" in lines
    assert lines[-1] == "Left out as rounding noise: conv0.bias, conv1.bias, conv2.bias and 2 more."
    groups = [reading(f"group{number}", FINE, 10.0**-number) for number in range(8, 20)]
    assert str(diagnosis(*groups)).splitlines()[0] == "Adam, step 100, ε = 1e-19 to 1e-8: 100 % of the entries adapt,"
    quiet = str(diagnosis(reading("fine", FINE))).splitlines()
    assert quiet[-1] == "steps are 99 % of what they would be with ε → 0."
    assert str(diagnosis()) == "Adam, step 100: no layer has a second moment above zero."


def test_what_has_no_epsilon_or_does_not_move_is_no_part_of_it():
    unread = Reading(Layer("frozen", torch.zeros(2), None, "bias"), LayerStatus.FROZEN)
    found = diagnosis(reading("none", FINE, None), reading("still", [0.0, 0.0]), unread, reading("fine", FINE))
    assert [layer.name for layer in found.layers] == ["fine"]
    left = diagnosis(reading("noise", DROWNED), reading("fine", FINE), noise=("noise",))
    assert ([layer.name for layer in left.layers], left.left_out) == (["fine"], ("noise",))


def looks(*dampings: float) -> list[str | None]:
    """Return what an alarm says of a layer whose damping takes these values, look by look."""
    alarm, said, step = Alarm(), [], 0
    for damping in dampings:
        step = alarm.next_look
        magnitude = 1e-8 * damping / (1 - damping)
        said.append(alarm.look(diagnosis(reading("layer", [magnitude] * 15 + [1e-7]), step=step)))
    return said


def test_two_looks_in_a_row_are_worth_one_warning():
    low, high = 0.05, 0.9
    said = looks(low, low, low, high, low, low)
    assert [each is not None for each in said] == [False, True, False, False, False, False]
    first, second = said[1].splitlines()
    assert first == "Adam, step 40: ε shortens the steps of 1 of 1 layers, and of all together to 10 %."
    assert second.startswith("  ε = 1e-8 is larger than √v̂ in 94 % of layer")
    assert looks(low, high, low, high) == [None] * 4
    between = (SHORTENED + RECOVERED) / 2 - 0.05
    assert looks(low, between, low)[2] is not None, "what lies in between does not count as recovered"


def test_a_layer_is_warned_of_again_where_it_gets_worse():
    alarm = Alarm()
    for step, magnitudes in ((20, SHORT), (40, SHORT), (60, DROWNED), (80, DROWNED), (100, DROWNED)):
        said = alarm.look(diagnosis(reading("layer", magnitudes), step=step))
        assert (said is not None) == (step in (40, 80)), step
        assert said is None or ("momentum SGD" in said) == (step == 80)


def test_many_layers_are_one_warning():
    alarm = Alarm()
    layers = [reading(f"layer{number}", DROWNED * (number + 1)) for number in range(9)]
    assert alarm.look(diagnosis(*layers)) is None
    said = alarm.look(diagnosis(*layers))
    assert said.count("\n") == 4 and said.endswith("So it is in 6 more layers.")
    assert "shortens the steps of 9 of 9 layers" in said
    assert "layer8" in said and "layer0" not in said, "those of most entries are named"


@pytest.mark.parametrize("begin", [0, 12_345])
def test_looks_grow_rarer(begin: int):
    """Also from where a training is resumed: one that often is would have no two looks otherwise."""
    alarm, steps = Alarm(begin), []
    while alarm.next_look < begin + 100_000:
        steps.append(alarm.next_look - begin)
        alarm.look(diagnosis(reading("fine", FINE), step=alarm.next_look))
    assert steps[:5] == [20, 40, 60, 80, 100] and len(steps) < 45
    assert all(
        later <= max(20, math.ceil(1.25 * step)) or later - step == 20 for step, later in itertools.pairwise(steps)
    )
