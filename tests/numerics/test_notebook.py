"""What bounds, histograms and diagnoses show in a notebook."""

import html
import re
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import epsgrid
from epsgrid.errors import ExecutionError
from epsgrid.numerics.histogram import density


def shown(value):
    """Return what a notebook displays as HTML: by IPython where it is installed, else by the method that it calls."""
    try:
        from IPython.core.formatters import DisplayFormatter
    except ImportError:
        return value._repr_html_()
    return DisplayFormatter().format(value)[0]["text/html"]


def texts(value):
    """Return the texts of the cells of a table, row by row; the HTML is well formed and has no colours of its own."""
    markup = shown(value)
    assert not re.search(r"color:|#[0-9a-f]{3}|background|<script|style>", markup)
    root = ElementTree.fromstring(f"<div>{markup.replace('<br>', '')}</div>")
    return [[cell.text for cell in row] for row in root.iter("tr")], root


@pytest.fixture(scope="module")
def measured():
    """A model with a layer whose name is markup, its bounds, and an observer of some steps at a large ε."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    names = {"<b>bold</b> & more": model[0].weight, "b": model[0].bias, "c": model[1].weight, "d": model[1].bias}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, eps=1.0)
    batches = torch.randn(30, 16, 4)

    def loss(model, batch):
        return model(batch).square().mean()

    bounds = epsgrid.probe(model, optimizer, batches, loss, named_parameters=names.items())
    with epsgrid.observe(optimizer, named_parameters=names.items()) as observer:
        for batch in batches:
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    return bounds, observer


def test_bounds_are_a_table_of_their_ends(measured):
    bounds, _ = measured
    (head, *rows), root = texts(bounds)
    assert head == ["end", "ε", "√v̂", "set by", "non-zero entries"]
    lines = str(bounds).splitlines()
    assert root.find("p").text == lines[0]
    assert [row[0] for row in rows] == ["low", "high"]
    for row, line, bound in zip(rows, lines[1:], (bounds.low, bounds.high), strict=True):
        assert row[3] == bound.layers[0] and f"√v̂ {row[2]} in {row[3]}, {row[4]} non-zero" in line


def test_names_are_escaped(measured):
    bounds, observer = measured
    for value in (bounds, observer.diagnosis()):
        assert "<b>" not in shown(value)
    assert html.escape("<b>bold</b> & more") in shown(observer.diagnosis())


def test_a_histogram_is_its_counts_and_its_shape(measured):
    histogram = measured[1].histograms()["b"]
    (_, row), root = texts(histogram)
    assert row[:3] == ["8", "0", "0"] and float(row[4]) == pytest.approx(histogram.median, rel=5e-3)
    bars = [float(bar.get("height")) for bar in root.iter("rect")]
    edges, shares = density([histogram])
    assert len(bars) == len(shares) == len(edges) - 1 and max(bars) == 40
    assert (shares / 10).sum() == pytest.approx(1, abs=0.01)
    nothing = epsgrid.LogHistogram(5, np.zeros(8161))
    assert texts(nothing)[0][1] == ["0", "0", "0", "–", "–", "–"]
    assert len(nothing.plot().patches) == 0


def test_a_diagnosis_is_its_text_with_a_table(measured):
    diagnosis = measured[1].diagnosis()
    (head, *rows), root = texts(diagnosis)
    assert head == ["layer", "entries", "adapt", "steps", "harmless ε"] and len(rows) == len(diagnosis.findings) > 1
    said = " ".join(str(diagnosis).split())
    for cell in [each for row in rows for each in row] + [each.text for each in root.iter("p")]:
        assert " ".join(cell.split()) in said


def test_pictures_are_drawn_on_given_or_new_axes(measured):
    from matplotlib.figure import Figure

    bounds, observer = measured
    axes = Figure().subplots()
    assert observer.histograms()["c"].plot(axes) is axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "gradient magnitude √v̂"
    drawn = bounds.plot()
    assert drawn is not axes
    labels = [text.get_text() for text in drawn.get_legend().get_texts()]
    assert labels == [f"lower bound: ε = {texts(bounds)[0][1][1]}", f"upper bound: ε = {texts(bounds)[0][2][1]}"]
    assert drawn.get_lines()[0].get_xdata()[0] == bounds.low.magnitude


def test_layers_are_a_frame_where_pandas_is(measured, monkeypatch):
    bounds, _ = measured
    pandas = pytest.importorskip("pandas")
    frame = bounds.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["name"]) == [layer.name for layer in bounds.layers]
    assert frame["low"].min() == bounds.low.magnitude
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ExecutionError, match=r"to_frame needs pandas .*`pip install pandas`"):
        bounds.to_frame()
