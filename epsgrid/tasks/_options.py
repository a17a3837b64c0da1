"""Options that several tasks share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from epsgrid.spec.options import Count, Frozen, Share, TaskOptions

Words = Annotated[int, Field(ge=2)]


class Subset(Frozen):
    """How many images, classes balanced, or sentence pairs of each split to use, chosen once."""

    train: Count | None = None
    """From the training split. null: all."""
    validation: Count | None = None
    """From the validation split. null: all."""
    test: Count | None = None
    """From the test split. null: all."""


class Columns(Frozen):
    """How many columns a split is cut into for scoring. A column begins without anything read before."""

    validation: Count = 10
    """Columns of the validation text."""
    test: Count = 1
    """Columns of the test text; one, as published."""


class LanguageOptions(TaskOptions):
    """How text is read."""

    carries_state: ClassVar[bool] = True

    sequence_length: Words = 70
    """Words that gradients go back through, on average."""
    variable_length: Literal[True] = True  # of an earlier version, and so part of the ids of its trials
    evaluation_columns: Columns = Columns()


class TranslationOptions(TaskOptions):
    """How text is encoded, the loss, and how translations are searched and judged; the published recipe by default."""

    vocabulary: Annotated[int, Field(ge=2)] = 10_000
    """Entries of the joint byte-pair encoding."""
    joined: Literal[False] = False  # like `bleu`, of an earlier version, and so part of the ids of its trials
    label_smoothing: Share = 0.1
    """Share of the target that is spread over all words."""
    metric: Literal["perplexity", "bleu"] = "perplexity"
    """What a training is judged by."""
    bleu: Literal[True] = True
    beam: Count = 5
    """Hypotheses that the beam search keeps."""
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    """A hypothesis is ranked by its log-probability over its length to this power."""
    longest_factor: Annotated[float, Field(ge=0)] = 1.2
    """Most tokens of a translation, as a multiple of those of its source; `longest_extra` is added."""
    longest_extra: Annotated[int, Field(ge=0)] = 10
    """Tokens that a translation may have besides."""
