"""Options that several tasks share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from epsgrid.spec.model import Count, Frozen, Share, TaskOptions

Words = Annotated[int, Field(ge=2)]


class Subset(Frozen):
    """How many images, classes balanced, or sentence pairs of each split to use, chosen once; None uses all."""

    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None


class Columns(Frozen):
    """How many columns a split is cut into for scoring; as published, one for the test text."""

    validation: Count = 10
    test: Count = 1


class LanguageOptions(TaskOptions):
    """How text is read.

    `sequence_length` is the number of words that gradients go back through on average. `evaluation_columns` can change
    scores a little: a column begins without anything read before.
    """

    carries_state: ClassVar[bool] = True

    sequence_length: Words = 70
    variable_length: Literal[True] = True  # of an earlier version, and so part of the ids of its trials
    evaluation_columns: Columns = Columns()


class TranslationOptions(TaskOptions):
    """How text is encoded, the loss, and how translations are searched and judged; the published recipe by default.

    A translation has at most `longest_factor` times the tokens of its source plus `longest_extra`.
    """

    vocabulary: Annotated[int, Field(ge=2)] = 10_000
    joined: Literal[False] = False  # like `bleu`, of an earlier version, and so part of the ids of its trials
    label_smoothing: Share = 0.1
    metric: Literal["perplexity", "bleu"] = "perplexity"
    bleu: Literal[True] = True
    beam: Count = 5
    length_penalty: Annotated[float, Field(ge=0)] = 1.0
    longest_factor: Annotated[float, Field(ge=0)] = 1.2
    longest_extra: Annotated[int, Field(ge=0)] = 10
