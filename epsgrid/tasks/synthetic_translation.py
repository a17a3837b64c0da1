"""Generated text in two toy languages, for trying things out and for tests; nothing learnt about the real world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from epsgrid.spec.model import Seed
from epsgrid.tasks._divide import Count
from epsgrid.tasks._translation import TranslationOptions, TranslationTask

if TYPE_CHECKING:
    import torch

    from epsgrid.data._parallel import ParallelCorpus


class Options(TranslationOptions):
    """How many sentence pairs are generated, and their seed; how they are encoded, searched and judged."""

    train: Count = 2000
    validation: Count = 200
    test: Count = 200
    data_seed: Seed = 0
    vocabulary: Annotated[int, Field(ge=2)] = 400


def prepare(options: Options) -> ParallelCorpus:
    """Generate and encode the text, or map what was encoded before.

    Raises:
        DataError: the cache cannot be written.
        SpecError: a vocabulary that the text cannot give.
        ExecutionError: a package of the extra `translation` is not installed.
    """
    from epsgrid.data import translation

    sizes = (options.train, options.validation, options.test)
    return translation.generate(sizes, options.data_seed, options.encoding())


def build(options: Options, data: ParallelCorpus, device: torch.device) -> TranslationTask:
    """Bind the task to its data and a device.

    Raises:
        ExecutionError: BLEU is asked for and a package for it is not installed.
    """
    return TranslationTask(options, data, device)
