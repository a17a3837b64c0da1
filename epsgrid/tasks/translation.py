"""Translation between two languages of your own text; as published for IWSLT14 German-English, by default.

The text is a folder of train|valid|test.de and .en, tokenised, a sentence a line (`root`). The published recipe: joint
byte-pair encoding of 10,000 with a dictionary for each language, 4,096 tokens a batch, label smoothing 0.1, beam 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, model_validator

from epsgrid.tasks._divide import Subset
from epsgrid.tasks._translation import TranslationOptions, TranslationTask

if TYPE_CHECKING:
    import torch

    from epsgrid.data._parallel import ParallelCorpus

Language = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class Options(TranslationOptions):
    """Where the text lies and which languages, as the endings of its files; how it is encoded, searched and judged.

    `root` is a folder, or the name of one among the data folders; it says where the text lies and leaves a trial's
    identity alone: the text's checksum speaks for it.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset({"root"})

    root: str | None = None
    source: Language = "de"
    target: Language = "en"
    subset: Subset = Subset()

    @model_validator(mode="after")
    def _languages_differ(self) -> Options:
        if self.source == self.target:
            raise ValueError(f"source and target are both {self.source!r}; they are the endings of two files")
        return self


def prepare(options: Options) -> ParallelCorpus:
    """Find and encode the text, or map what was encoded before.

    Raises:
        DataError: text is missing or damaged, and how to mend it.
        SpecError: a vocabulary or subset that the text cannot give.
        ExecutionError: a package of the extra `translation` is not installed.
    """
    from epsgrid.data import translation

    languages, counts = (options.source, options.target), options.subset.model_dump()
    return translation.load(options.root, languages, options.encoding(), counts)


def build(options: Options, data: ParallelCorpus, device: torch.device) -> TranslationTask:
    """Bind the task to its data and a device.

    Raises:
        ExecutionError: BLEU is asked for and a package for it is not installed.
    """
    return TranslationTask(options, data, device)
