"""A report says that trials were trained by SVAG, and what of their model that does not reach."""

from types import SimpleNamespace

from epsgrid.report.notes import _svag_notes


def stored(training: dict, *caveats: list[str]) -> SimpleNamespace:
    results = {str(n): SimpleNamespace(provenance={"svag": told} if told else {}) for n, told in enumerate(caveats)}
    return SimpleNamespace(experiment=SimpleNamespace(spec={"training": training}), results=results)


def test_finer_steps_and_caveats_are_told_once():
    first, *caveats = _svag_notes(stored({"svag": {"l": 4}}, ["batch norm: …"], ["batch norm: …"], []))
    assert first.startswith(
        "trained by SVAG with l = 4: an epoch has 16 times the steps, taken with the learning rate over 4"
    )
    assert caveats == ["batch norm: …"]


def test_plain_training_is_not_remarked_on():
    assert _svag_notes(stored({"epochs": 2})) == _svag_notes(stored({"svag": None})) == []
    assert _svag_notes(stored({"svag": {"l": 1}}, [])) == []
