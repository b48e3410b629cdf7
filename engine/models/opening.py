"""From what a run says to the labeler that does it: the model's backend, and what stands before it."""

from __future__ import annotations

from collections.abc import Callable

from engine.labeler import Labeler
from engine.models import response_cache
from workspace.errors import ModelError, TaskError
from workspace.facts import Preparation, RunSpec


def open_labeler(spec: RunSpec, progress: Callable[[float], None] | None = None) -> Labeler:
    """The labeler of a run, ready to be asked; `progress` hears the share that is loaded, 0 to 1.

    Raises ModelError when the model or one of the dimensions cannot be used here.
    """
    # Imported where they are needed: most tasks have neither rules nor steps.
    if spec.rules:
        from engine.text.prefilter import check_rules

        try:
            check_rules(spec.rules)
        except TaskError as error:
            raise ModelError(error.title, error.advice, error.details) from error
    labeler = _backend(spec, progress)
    if response_cache.wanted(spec):
        labeler = response_cache.Cached(labeler, spec)
    if spec.preparation != Preparation():
        from engine.text.prepared import Prepared

        labeler = Prepared(labeler, spec.preparation)
    if spec.rules:
        from engine.text.prefiltered import Prefiltered

        labeler = Prefiltered(labeler, spec.rules, spec.dimensions, spec.preparation.conversation)
    return labeler


def _backend(spec: RunSpec, progress: Callable[[float], None] | None) -> Labeler:
    # Imported where they are needed, so that a missing or broken library is a sentence and not a dead process.
    model = spec.model
    if model.backend == "llama_cpp":
        try:
            from engine.models.llama_cpp import LlamaScorer
        except (ImportError, OSError, RuntimeError) as error:
            raise ModelError("llama.cpp cannot be loaded.", "Set the program up again.", str(error)) from error
        return LlamaScorer(model.path, spec.dimensions, name=model.name, progress=progress)
    if model.backend == "embedding":
        from engine.models.embedding_labeler import EmbeddingLabeler

        return EmbeddingLabeler(spec.dimensions)
    if model.backend == "ollama":
        from engine.models.ollama_labeler import open_ollama

        return open_ollama(spec, progress)
    if model.backend == "openai":
        from engine.models.openai_labeler import open_openai

        return open_openai(spec, progress)
    raise ModelError(f"The backend '{model.backend}' is not known here.", "Update this machine.")
