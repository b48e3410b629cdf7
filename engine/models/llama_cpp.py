"""Labels from a GGUF model without generating text: the probabilities of the label words right after the row.

The instructions are decoded once and every row continues from them, many rows in one call; what is read are the
logits of the few tokens by which the labels differ. Measured against asking the same model for JSON row by row
in `benchmarks/labeling.py`.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.labeler import EMPTY, TRUNCATED, Answer, LoadedModel, Progress
from engine.models.catalog import check_file
from engine.models.chat_template import frame
from engine.models.label_tree import Floats, LabelTree, label_tree
from engine.models.llama_native import (
    MAX_SEQUENCES,
    Ints,
    NativeContext,
    NativeModel,
    NoRoom,
    build,
    physical_cores,
)
from engine.models.tuning import fastest_form
from workspace.errors import ModelError
from workspace.facts import DimensionSpec

CONTEXT_TOKENS = 4096  # prompt and rows held at once; some models need 0.5 MB for each
BATCH_TOKENS = 512  # tokens per call: enough to keep a CPU busy, and every token attends to all of its batch
ROWS_PER_BATCH = 120  # leaves sequences free for labels of several tokens
MIN_ROW_TOKENS = 32  # a prompt that leaves less than this for the row cannot be asked
CHARACTERS_PER_TOKEN = 16  # a longer text cannot fit anyway: cut before tokenizing, which need not be linear
SAVED_PROMPTS = 256 << 20  # bytes of prompts kept for when their dimension is asked again

_PREFIX = 0  # the sequence that holds the instructions


@dataclass(frozen=True)
class _Asked:
    """A dimension as this model is asked it."""

    prefix: Ints
    suffix: Ints
    tree: LabelTree
    candidates: tuple[Ints, ...]  # token ids at each branching
    room: int  # tokens of the longest row


@dataclass
class _Row:
    tokens: Ints  # with the suffix
    places: list[int]  # where this text stands among the rows asked
    warnings: tuple[str, ...]
    choices: list[Floats] = field(default_factory=list)
    error: str = ""


class LlamaScorer:
    """A loaded model that answers dimensions. Not thread-safe. Close it, or let the process end.

    Implements `engine.labeler.Labeler`. Raises ModelError when the file is missing, damaged or of a kind that
    cannot be used, or when one of `dimensions` cannot be asked of it.
    """

    def __init__(
        self,
        path: str,
        dimensions: Sequence[DimensionSpec] = (),
        *,
        name: str = "",
        threads: int | None = None,
        n_ctx: int | None = None,
        n_batch: int = BATCH_TOKENS,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        started = time.perf_counter()
        check_file(Path(path))
        self._dimensions = tuple(dimensions)
        self.threads = threads or physical_cores()
        form = fastest_form(path, (lambda: progress(0.0)) if progress is not None else None)
        self._model = NativeModel(form.path, progress, rearranged=form.rearranged)
        self._asked: dict[DimensionSpec, _Asked] = {}
        self._saved: collections.OrderedDict[DimensionSpec, bytes] = collections.OrderedDict()
        self._live: DimensionSpec | None = None
        self._beat: Callable[[], object] = _nothing
        self._limit = self._model.n_ctx_train or CONTEXT_TOKENS
        if n_ctx is None:
            longest = max((len(self._frame_tokens(dimension)[0]) for dimension in dimensions), default=0)
            n_ctx = max(CONTEXT_TOKENS, 2 * longest + 1024)
        self._context = NativeContext(self._model, min(n_ctx, self._limit), n_batch, self.threads)
        rooms = [self._ask(dimension).room for dimension in dimensions]
        self.loaded = LoadedModel(
            name=name or Path(path).stem,
            build=f"{build()}, {form.name} weights",
            n_ctx=self._context.n_ctx,
            row_tokens=min(rooms, default=self._context.n_ctx),
            threads=self.threads,
            capabilities=("logits", "gpu") if self._model.gpu else ("logits",),
            seconds=time.perf_counter() - started,
        )

    def close(self) -> None:
        self._context.close()
        self._model.close()

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """See `engine.labeler.Labeler`."""
        columns = [self.score(dimension, rows, progress) for dimension in self._dimensions]
        return list(zip(*columns, strict=True))

    def score(
        self, dimension: DimensionSpec, rows: Sequence[str], progress: Progress | None = None
    ) -> list[Answer]:
        """Answers in the order of `rows`; the same text gets the same answer. Raises ModelError when the
        dimension cannot be asked; a row that fails alone carries its `error`."""
        started = time.perf_counter()
        asked = self._ask(dimension)
        distinct = self._distinct(asked, rows)
        done = 0
        # Heard after every call into the model, so that a long row or prompt is not taken for a hang.
        self._beat = (lambda: progress(done)) if progress is not None else _nothing
        self._make_live(dimension, asked)
        for pack in self._packs(asked, distinct):
            self._decode(asked, pack)
            done += sum(len(row.places) for row in pack)
            self._beat()
        elapsed = time.perf_counter() - started
        return _answers(asked, distinct, len(rows), elapsed)

    # -- the dimension ------------------------------------------------------------------------------------

    def _ask(self, dimension: DimensionSpec) -> _Asked:
        known = self._asked.get(dimension)
        if known is not None:
            return known
        prefix, suffix, suffix_text, lead = self._frame_tokens(dimension)
        words = [self._word_tokens(suffix, suffix_text, lead + word) for word in dimension.words]
        tree = label_tree(words, self._model.end_of_turn)
        deepest = max(len(place.path) for place in tree.branchings)
        room = self._context.n_ctx - len(prefix) - len(suffix) - deepest
        if room < MIN_ROW_TOKENS:
            raise ModelError(
                f"The instructions of '{dimension.name}' are too long for this model.",
                f"They take {len(prefix)} tokens of {self._context.n_ctx}. Shorten them or choose another model.",
            )
        candidates = tuple(np.array(place.tokens, dtype=np.int32) for place in tree.branchings)
        asked = _Asked(_ints(prefix), _ints(suffix), tree, candidates, room)
        self._asked[dimension] = asked
        return asked

    def _frame_tokens(self, dimension: DimensionSpec) -> tuple[list[int], list[int], str, str]:
        model = self._model
        text = frame(
            dimension,
            model.chat_template(),
            model.text_of(model.bos),
            model.text_of(model.eos),
            chatml=len(model.tokens("<|im_end|>", special=True)) == 1,
        )
        prefix = model.tokens(text.prefix, special=True)
        if model.adds_bos and model.bos >= 0 and prefix[:1] != [model.bos]:
            prefix.insert(0, model.bos)
        if not prefix:
            raise ModelError(f"The instructions of '{dimension.name}' are empty.", "Write what is asked.")
        return prefix, model.tokens(text.suffix, special=True), text.suffix, text.lead

    def _word_tokens(self, suffix: list[int], suffix_text: str, word: str) -> list[int]:
        # Tokenized together with what stands before it, as it would be in a generated answer.
        together = self._model.tokens(suffix_text + word, special=True)
        if len(together) > len(suffix) and together[: len(suffix)] == suffix:
            return together[len(suffix) :]
        return self._model.tokens(word, special=False)

    def _make_live(self, dimension: DimensionSpec, asked: _Asked) -> None:
        """Have the instructions in the cache, alone: cells of other prompts would slow every row down."""
        if self._live == dimension:
            return
        self._context.clear()
        self._live = None
        saved = self._saved.get(dimension)
        if saved is None or not self._context.restore(_PREFIX, saved):
            self._extend(_PREFIX, 0, asked.prefix, wanted=False)
            self._saved[dimension] = self._context.save(_PREFIX)
            while sum(map(len, self._saved.values())) > SAVED_PROMPTS:
                self._saved.popitem(last=False)
        self._saved.move_to_end(dimension) if dimension in self._saved else None
        self._live = dimension

    # -- the rows -----------------------------------------------------------------------------------------

    def _distinct(self, asked: _Asked, rows: Sequence[str]) -> list[_Row]:
        """Each different text once, tokenized, cut to what fits, shortest first."""
        found: dict[str, _Row] = {}
        for place, text in enumerate(rows):
            row = found.get(text)
            if row is None:
                row = found[text] = self._row(asked, text)
            row.places.append(place)
        return sorted(found.values(), key=lambda row: len(row.tokens))

    def _row(self, asked: _Asked, text: str) -> _Row:
        part = text[: asked.room * CHARACTERS_PER_TOKEN]
        tokens = self._model.tokens(part, special=False)
        warnings = []
        if len(part) < len(text) or len(tokens) > asked.room:
            warnings.append(TRUNCATED)
        if not text.strip():
            warnings.append(EMPTY)
        return _Row(np.concatenate([_ints(tokens[: asked.room]), asked.suffix]), [], tuple(warnings))

    def _packs(self, asked: _Asked, rows: Sequence[_Row]) -> list[list[_Row]]:
        """Rows that are decoded together. A row longer than a batch is alone."""
        limit = min(self._context.n_batch, self._context.n_ctx - len(asked.prefix))
        packs: list[list[_Row]] = []
        size = 0
        for row in rows:
            if not packs or size + len(row.tokens) > limit or len(packs[-1]) == ROWS_PER_BATCH:
                packs.append([])
                size = 0
            packs[-1].append(row)
            size += len(row.tokens)
        return packs

    def _decode(self, asked: _Asked, pack: list[_Row]) -> None:
        """Fill the choices of every row of a pack; on a full cache in two halves, and so on."""
        try:
            self._decode_together(asked, pack)
        except NoRoom:
            if len(pack) == 1:
                pack[0].error = "The row does not fit into the model's memory."
                return
            for half in (pack[: len(pack) // 2], pack[len(pack) // 2 :]):
                self._decode(asked, half)
        finally:
            for sequence in range(1, MAX_SEQUENCES):
                self._context.forget(sequence)

    def _decode_together(self, asked: _Asked, pack: list[_Row]) -> None:
        start = len(asked.prefix)
        for row in pack:
            row.choices.clear()
        for sequence in range(1, len(pack) + 1):
            self._context.fork(_PREFIX, sequence)
        if len(pack) == 1:
            places = [self._extend(1, start, pack[0].tokens, wanted=True)]
        else:
            places = self._context.decode([(i + 1, start, row.tokens, True) for i, row in enumerate(pack)])
        for row, place in zip(pack, places, strict=True):
            row.choices.append(self._context.logits(place, asked.candidates[0]))
        self._descend(asked, pack)

    def _descend(self, asked: _Asked, pack: list[_Row]) -> None:
        """The branchings below the root: each continues from its row with the tokens that lead there."""
        todo = [(index, place) for index in range(len(pack)) for place in range(1, len(asked.candidates))]
        while todo:
            pieces: list[tuple[int, int, Ints, bool]] = []
            size = 0
            group = []
            free = iter(range(len(pack) + 1, MAX_SEQUENCES))
            for index, place in todo:
                path = _ints(asked.tree.branchings[place].path)
                sequence = next(free, None)
                if sequence is None or size + len(path) > self._context.n_batch:
                    break
                self._context.fork(index + 1, sequence)
                pieces.append((sequence, len(asked.prefix) + len(pack[index].tokens), path, True))
                group.append((index, place, sequence))
                size += len(path)
            for (index, place, _), at in zip(group, self._context.decode(pieces), strict=True):
                pack[index].choices.append(self._context.logits(at, asked.candidates[place]))
            self._beat()
            for _, _, sequence in group:
                self._context.forget(sequence)
            del todo[: len(group)]

    def _extend(self, sequence: int, start: int, tokens: Ints, *, wanted: bool) -> int:
        """Decode tokens that may be longer than a batch; returns the place of the last one's logits."""
        places = [0]
        for offset in range(0, len(tokens), self._context.n_batch):
            part = tokens[offset : offset + self._context.n_batch]
            last = offset + len(part) == len(tokens)
            try:
                places = self._context.decode([(sequence, start + offset, part, wanted and last)])
            except NoRoom:
                if sequence == _PREFIX:
                    raise ModelError(
                        "The instructions are too long for this model.", "Shorten them or choose another model."
                    ) from None
                raise
            self._beat()
        return places[0] if wanted else 0


def _answers(asked: _Asked, distinct: Sequence[_Row], count: int, elapsed: float) -> list[Answer]:
    answers: list[Answer | None] = [None] * count
    total = sum(len(row.tokens) * len(row.places) for row in distinct) or 1
    for row in distinct:
        logprobs = () if row.error else tuple(asked.tree.logprobs(row.choices).tolist())
        if not np.isfinite(logprobs).all():
            logprobs, row.error = (), "The model gave no usable number for this row."
        answer = Answer(
            logprobs=logprobs,
            prompt_tokens=len(asked.prefix) + len(row.tokens),
            completion_tokens=0,
            seconds=elapsed * len(row.tokens) / total,
            warnings=row.warnings,
            error=row.error,
        )
        for place in row.places:
            answers[place] = answer
    return [answer for answer in answers if answer is not None]


def _nothing() -> None:
    """Nobody listens."""


def _ints(tokens: Sequence[int]) -> Ints:
    return np.asarray(tokens, dtype=np.int32)
