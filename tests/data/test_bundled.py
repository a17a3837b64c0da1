"""The data sets that come with epsgrid are those that come with scikit-learn, bit for bit."""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer, load_digits

from epsgrid.data import bundled


def test_the_digits_are_those_of_scikit_learn() -> None:
    digits, theirs = bundled("digits"), load_digits()
    assert digits["images"].shape == (1797, 8, 8)
    assert digits["images"].astype("<f8").tobytes() == theirs.images.astype("<f8").tobytes()
    assert digits["target"].tolist() == theirs.target.tolist()


def test_the_breast_cancer_data_are_those_of_scikit_learn() -> None:
    nuclei, theirs = bundled("breast_cancer"), load_breast_cancer()
    assert nuclei["data"].shape == (569, 30)
    assert nuclei["data"].astype("<f8").tobytes() == theirs.data.astype("<f8").tobytes()
    assert nuclei["target"].tolist() == theirs.target.tolist()
    assert nuclei["feature_names"].tolist() == theirs.feature_names.tolist()
