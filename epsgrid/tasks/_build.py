"""The function `build` of the tasks that read text; importing it imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epsgrid.data._corpus import Corpus
from epsgrid.data._parallel import ParallelCorpus
from epsgrid.tasks import Task
from epsgrid.tasks._options import LanguageOptions, TranslationOptions

if TYPE_CHECKING:
    import torch


def build_language(options: LanguageOptions, data: Corpus, device: torch.device) -> Task:
    """Bind a language task to its data and a device."""
    from epsgrid.tasks._language import LanguageTask

    return LanguageTask(data, options, device)


def build_translation(options: TranslationOptions, data: ParallelCorpus, device: torch.device) -> Task:
    """Bind a translation task to its data and a device.

    Raises:
        ExecutionError: BLEU is asked for and a package for it is not installed.
    """
    from epsgrid.tasks._translation import TranslationTask

    return TranslationTask(options, data, device)
