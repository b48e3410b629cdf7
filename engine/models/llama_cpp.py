"""Labels from a GGUF model without generating text: the probabilities of the label words right after the row.

The instructions are decoded once, every row continues from them, and every question continues from its row, many
rows and questions in one call; what is read are the logits of the few tokens by which the labels differ. Measured
against asking the same model for JSON row by row in `benchmarks/labeling.py` and `benchmarks/multidim.py`.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from engine.labeler import EMPTY, TRUNCATED, Answer, LoadedModel, Progress
from engine.models.catalog import check_file
from engine.models.forks import BASE, SPARE_TOKENS, Forks
from engine.models.llama_native import Ints, NativeContext, NativeModel, NoRoom, build
from engine.models.questions import Group, Questions
from engine.models.row_asking import EXPLANATION, Asking, Row, RowAsking
from engine.models.shortlist import PRUNED_WARNING, shortlists
from engine.models.tuning import fastest_form
from engine.models.visits import BOUND, Visit, visits
from workspace.errors import ModelError
from workspace.facts import DimensionSpec

CONTEXT_TOKENS = 4096  # prompt and rows held at once; some models need 0.5 MB for each
BATCH_TOKENS = 512  # tokens per call: enough to keep a CPU busy, and every token attends to all of its batch
MIN_ROW_TOKENS = 32  # a prompt that leaves less than this for the row cannot be asked
MIN_PART = 48  # a row is cut in two where a batch has room for so many of its tokens, never for fewer
CHARACTERS_PER_TOKEN = 16  # a longer text cannot fit anyway: cut before tokenizing, which need not be linear


class LlamaScorer:
    """A loaded model that answers dimensions. Not thread-safe. Close it, or let the process end.

    Implements `engine.labeler.Labeler`. `bound` is how likely labels of several tokens may be together and yet not
    be told apart (see `engine.models.label_tree`); with 0 all are. Raises ModelError when the file is missing,
    damaged or of a kind that cannot be used, or when one of `dimensions` cannot be asked of it.
    """

    def __init__(
        self,
        path: str,
        dimensions: Sequence[DimensionSpec],
        *,
        name: str = "",
        threads: int | None = None,
        n_ctx: int | None = None,
        n_batch: int = BATCH_TOKENS,
        bound: float = BOUND,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        started = time.perf_counter()
        check_file(Path(path))
        form = fastest_form(path, (lambda: progress(0.0)) if progress is not None else None)
        self.threads = threads or form.threads
        self._model = NativeModel(form.path, progress, rearranged=form.rearranged)
        try:
            self._questions = Questions(self._model, dimensions)
            self._visits = visits(self._questions, bound)
            longest = max((len(group.prefix) for group in self._questions.groups), default=0)
            cells = n_ctx or max(CONTEXT_TOKENS, 2 * longest + 1024)
            self._context = NativeContext(self._model, cells, n_batch, self.threads)
        except BaseException:
            self._model.close()
            raise
        self._live: Group | None = None
        self._saved: dict[int, bytes] = {}  # prompts, for when their turn comes again
        self.tokens = 0  # computed so far, for those who measure
        try:
            self._rooms = [self._room(visit) for visit in self._visits]
        except ModelError:
            self.close()
            raise
        self.loaded = LoadedModel(
            name=name or Path(path).stem,
            build=f"{build()}, {form.name} weights",
            n_ctx=self._context.n_ctx,
            row_tokens=min(self._rooms, default=self._context.n_ctx),
            threads=self.threads,
            capabilities=("logits", "gpu") if self._model.gpu else ("logits",),
            seconds=time.perf_counter() - started,
        )

    def close(self) -> None:
        """Give back the memory."""
        self._context.close()
        self._model.close()

    def ask(self, rows: Sequence[str], progress: Progress | None = None) -> list[tuple[Answer, ...]]:
        """See `engine.labeler.Labeler`. The same text gets the same answers."""
        started = time.perf_counter()
        found: dict[str, Row] = {}
        for place, text in enumerate(rows):
            found.setdefault(text, Row(text, [])).places.append(place)
        distinct = list(found.values())
        for row in distinct:
            if not row.text.strip():
                row.warnings.append(EMPTY)
        self._shortlist(distinct)
        for visit, room in zip(self._visits, self._rooms, strict=True):
            last = visit is self._visits[-1]
            self._ask_all(visit, room, [row for row in distinct if not row.error], progress, count=last)
        return self._answers(distinct, len(rows), time.perf_counter() - started)

    # -- prompts ------------------------------------------------------------------------------------------

    def _room(self, visit: Visit) -> int:
        """Tokens of the longest row that can be asked all of this."""
        questions = [question for place in visit.places for question in visit.questions.typical(place)]
        after = sum(len(question.suffix) - len(visit.tail) for question in questions)
        deepest = max(len(path) for question in questions for path in question.open)
        longest = max(len(question.suffix) for question in questions)
        if any(self._questions.dimensions[place].explain for place in visit.places):
            deepest += EXPLANATION
        prompt = len(visit.group.prefix)
        # Much that follows a row is computed bit by bit; what is one piece has to fit.
        reserve = len(visit.tail) + min(after, self._context.n_batch) + longest + deepest + SPARE_TOKENS
        reserve = min(reserve, self._context.n_batch + longest + deepest)
        room = min(self._context.n_ctx, self._model.n_ctx_train or self._context.n_ctx) - prompt - reserve
        if room < MIN_ROW_TOKENS:
            name = self._questions.dimensions[visit.places[0]].name
            raise ModelError(
                f"The instructions of '{name}' are too long for this model.",
                f"They take {prompt} tokens of {self._context.n_ctx}. Shorten them or choose another model.",
            )
        return room

    def _make_live(self, group: Group, beat: Callable[[], object]) -> None:
        """Have a group's prompt in the cache, alone: cells of other prompts would slow every row down."""
        if self._live is group:
            return
        self._context.clear()
        self._live = None
        number = self._questions.groups.index(group)
        saved = self._saved.get(number, b"")
        if not saved or not self._context.restore(BASE, saved):
            size = self._context.n_batch
            for start in range(0, len(group.prefix), size):
                part = group.prefix[start : start + size]
                try:
                    self._context.decode([(BASE, start, part, False)])
                except NoRoom:
                    raise ModelError(
                        "The instructions do not fit into the model's memory.", "Shorten them."
                    ) from None
                self.tokens += len(part)
                beat()
            if len(self._questions.groups) > 1:
                self._saved[number] = self._context.save(BASE)
        self._live = group

    # -- rows ---------------------------------------------------------------------------------------------

    def _ask_all(
        self, visit: Visit, room: int, rows: Sequence[Row], progress: Progress | None, *, count: bool
    ) -> None:
        """Ask all rows what one visit asks. Progress counts rows in the last visit only."""
        done = 0

        def beat() -> None:
            # Heard after every call into the model, so that a long row or prompt is not taken for a hang.
            if progress is not None:
                progress(done)

        def finished(row: Row) -> None:
            nonlocal done
            done += len(row.places) if count else 0

        self._make_live(visit.group, beat)
        forks = Forks(self._context, len(visit.group.prefix), beat, at_once=self._model.branches_at_once)
        asking = Asking(visit, forks, self._context, self._model)
        waiting = sorted(
            (RowAsking(asking, row, self._tokens(row, room), finished) for row in rows), key=lambda job: job.size
        )
        sizes = [job.size for job in waiting]

        def more(free: int) -> bool:
            """Begin the longest row that fits, or a part of the shortest."""
            place = bisect.bisect_right(sizes, free) - 1
            if place < 0:
                if not waiting or free < MIN_PART:
                    return False
                place = 0
            if not waiting[place].begin():
                return False
            del waiting[place], sizes[place]
            return True

        try:
            forks.run(more)
        except BaseException:
            self._context.clear()  # whatever was under way is not to be mistaken for the prompt
            self._live = None
            raise
        self.tokens += forks.tokens
        beat()

    def _tokens(self, row: Row, room: int) -> Ints:
        part = row.text[: room * CHARACTERS_PER_TOKEN]
        tokens = self._model.tokens(part, special=False)
        if (len(part) < len(row.text) or len(tokens) > room) and TRUNCATED not in row.warnings:
            row.warnings.append(TRUNCATED)
        return np.asarray(tokens[:room], dtype=np.int32)

    def _shortlist(self, rows: Sequence[Row]) -> None:
        """Where labels are too many to be listed, choose those that come into question for each row."""
        for place, dimension in enumerate(self._questions.dimensions):
            if self._questions.is_shortlisted(place):
                for row, chosen in zip(rows, shortlists(dimension, [row.text for row in rows]), strict=True):
                    row.shortlists[place] = chosen
                    if len(chosen) < len(dimension.labels) and PRUNED_WARNING not in row.warnings:
                        row.warnings.append(PRUNED_WARNING)

    def _answers(self, distinct: Sequence[Row], count: int, elapsed: float) -> list[tuple[Answer, ...]]:
        answers: list[tuple[Answer, ...]] = [()] * count
        total = sum(row.tokens * len(row.places) for row in distinct) or 1
        dimensions = len(self._questions.dimensions)
        for row in distinct:
            seconds = elapsed * row.tokens / total / max(dimensions, 1)
            made = tuple(self._answer(row, place, seconds) for place in range(dimensions))
            for place in row.places:
                answers[place] = made
        return answers

    def _answer(self, row: Row, place: int, seconds: float) -> Answer:
        found = row.answers.get(place)
        if row.error or found is None:
            return Answer((), 0, 0, seconds, tuple(row.warnings), row.error)
        return Answer(
            logprobs=tuple(found.logprobs.tolist()),
            prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens,
            seconds=seconds,
            warnings=tuple(row.warnings),
            phrasings=tuple(tuple(values.tolist()) for values in found.phrasings),
            explanation=found.explanation,
        )
