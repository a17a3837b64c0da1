"""The options of all tasks: defaults, limits, and those that are no part of a trial's identity."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from epsgrid import tasks


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("cifar10", {"subset": {"trian": 5}}, "Extra inputs"),
        ("images", {}, "Field required"),
        ("images", {"root": ".", "fit": "squeeze"}, "'center-crop' or 'resize'"),
        ("nuclei", {"validation": -1}, "greater than or equal to 0"),
        ("nuclei", {"unit": "inch"}, "'um', 'mm' or 'cm'"),
        ("ptb", {"subset": {"train": 1}}, "greater than or equal to 2"),
        ("synthetic_text", {"test": 10, "memory": 10}, "memory: 10 must be less than the words of every split"),
        ("translation", {"source": "en"}, "source and target are both 'en'"),
        ("translation", {"source": "../de"}, "String should match pattern"),
        ("translation", {"bleu": False}, "Input should be True"),
    ],
)
def test_options_out_of_range_are_refused(name: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        tasks.load(name).Options(name=name, **settings)


@pytest.mark.parametrize(
    ("name", "place", "other"),
    [
        ("cifar10", {"root": "/here", "download": True}, {"validation": 0}),
        ("images", {"root": "/here"}, {"size": 9}),
        ("ptb", {"root": "/here", "checked": False}, {"subset": {"train": 9}}),
        ("translation", {"root": "/here"}, {"beam": 4}),
    ],
)
def test_where_the_data_lie_is_no_part_of_a_trials_identity(
    name: str, place: dict[str, Any], other: dict[str, Any]
) -> None:
    required = {"root": "/there"} if name == "images" else {}
    options = tasks.load(name).Options
    identity = options(name=name, **required).identity()
    assert options(name=name, **place).identity() == identity
    assert options(name=name, **required, **other).identity() != identity
    assert not place.keys() & identity.keys()


def test_defaults_are_the_published_protocols() -> None:
    cifar10, ptb, translation = (tasks.load(name).Options(name=name) for name in ("cifar10", "ptb", "translation"))
    module: Any = tasks.load("cifar10")
    assert (module.MEAN, module.SD) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    assert (cifar10.validation, cifar10.augment, cifar10.download) == (5000, True, False)
    assert (ptb.sequence_length, ptb.variable_length) == (70, True)
    assert (ptb.evaluation_columns.validation, ptb.evaluation_columns.test) == (10, 1)
    assert (translation.vocabulary, translation.label_smoothing, translation.beam) == (10_000, 0.1, 5)
