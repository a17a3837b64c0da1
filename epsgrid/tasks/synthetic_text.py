"""Generated text with a known best perplexity, for trying things out and for tests; nothing learnt about the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from epsgrid.spec.model import Seed
from epsgrid.tasks._language import LanguageOptions, LanguageTask, Words

if TYPE_CHECKING:
    import torch

    from epsgrid.data._corpus import Corpus


class Options(LanguageOptions):
    """Vocabulary, how many places back a word depends on another, words of each split, seed; how the text is read."""

    words: Annotated[int, Field(ge=2, le=1000)] = 20
    memory: Annotated[int, Field(ge=1)] = 1
    train: Words = 20_000
    validation: Words = 2_000
    test: Words = 2_000
    data_seed: Seed = 0

    @model_validator(mode="after")
    def _memory_fits_every_split(self) -> Options:
        least = min(self.train, self.validation, self.test)
        if self.memory >= least:
            raise ValueError(f"memory: {self.memory} must be less than the words of every split, the least is {least}")
        return self


def prepare(options: Options) -> Corpus:
    """Generate the text; nothing is kept, as reading it back would hardly be faster."""
    from epsgrid.data import synthetic_text

    sizes = (options.train, options.validation, options.test)
    return synthetic_text.generate(options.words, options.memory, sizes, options.data_seed)


def build(options: Options, data: Corpus, device: torch.device) -> LanguageTask:
    """Bind the task to its data and a device."""
    return LanguageTask(data, options, device)
