"""Penn Treebank, word by word, read as published for AWD-LSTM; judged by perplexity.

Validation text chooses among epochs and trials, and the test perplexity is reported at the chosen point. The published
code watches the test text instead: `training.selection: test`. A text of your own is read from `train.txt`,
`valid.txt` and `test.txt` in `root` with `checked: false`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from epsgrid.tasks._language import LanguageOptions, LanguageTask, Subset

if TYPE_CHECKING:
    import torch

    from epsgrid.data._corpus import Corpus


class Options(LanguageOptions):
    """Where the text lies, whether it must be the published one, how much of it is used and how it is read.

    `root` and `checked` leave a trial's identity alone: the text's checksum speaks for them.
    """

    location_fields: ClassVar[frozenset[str]] = frozenset({"root", "checked"})

    root: str | None = None
    checked: bool = True
    subset: Subset = Subset()


def prepare(options: Options) -> Corpus:
    """Find and decode the text, or map what was decoded before.

    Raises:
        DataError: a file is missing, and how to get it; or it is not the published one, or not usable.
        SpecError: more words are asked for than there are.
    """
    from epsgrid.data import ptb

    return ptb.load(options.root, options.checked).first(options.subset.model_dump())


def build(options: Options, data: Corpus, device: torch.device) -> LanguageTask:
    """Bind the task to its data and a device."""
    return LanguageTask(data, options, device)
