"""The largest batch that data have, held against what the tasks themselves do with it."""

import pytest
import torch

from epsgrid import tasks
from epsgrid.errors import DataError
from epsgrid.stages.batch_sizes import too_large


def prepared(name, **options):
    plugin = tasks.load(name)
    chosen = plugin.Options(name=name, **options)
    data = plugin.prepare(chosen)
    return data, plugin.build(chosen, data, torch.device("cpu"))


def test_of_images_it_holds_all_examples():
    data, task = prepared("digits")
    largest = len(data.train)
    assert task.steps_per_epoch(largest) == 1 < task.steps_per_epoch(largest - 1)
    assert too_large(largest, data) is None
    assert "10,000 is larger than the data" in too_large(10_000, data)
    assert f"all {largest:,} training examples" in too_large(largest + 1, data)


def test_of_text_it_has_two_words_a_column():
    data, task = prepared("synthetic_text", train=1000)
    largest = 499
    assert task.steps_per_epoch(largest) == 1
    with pytest.raises(DataError, match="too few for 500 columns"):
        task.steps_per_epoch(largest + 1)
    assert too_large(largest, data) is None
    assert "499 columns of two words that 1,000 training words make" in too_large(largest + 1, data)


def test_of_a_translation_it_holds_all_tokens_with_their_filling():
    data, task = prepared("synthetic_translation", train=96, vocabulary=60)
    lengths = [max(pair) for pair in zip(data.train.source.lengths, data.train.target.lengths, strict=True)]
    largest = 96 * max(lengths)
    assert task.steps_per_epoch(largest) == 1 < task.steps_per_epoch(largest - 1)
    assert too_large(largest, data) is None
    assert f"{largest:,} tokens of 96 training pairs" in too_large(largest + 1, data)


def test_of_unknown_data_nothing_is_said():
    assert too_large(10**9, object()) is None
