"""llama.cpp's C interface as far as scoring needs it: loading, tokens, decoding many sequences, logits.

The high-level `Llama` class of llama-cpp-python holds one sequence at a time; the C layer below it holds many.
"""

from __future__ import annotations

import collections
import ctypes
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import numpy.typing as npt
import psutil

from engine.models.catalog import check_file
from workspace.errors import ModelError

Ints = npt.NDArray[np.int32]

Piece = tuple[int | Sequence[int], int, Ints, bool]

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ of llama.cpp
_SHARED_SEQUENCES = 8 * MAX_SEQUENCES  # a token belongs to the sequences of all that branches off from it
_COUNTING = np.arange(1 << 16, dtype=np.int32)
_ERROR, _CONTINUED = 4, 5  # ggml_log_level

_error_lines: collections.deque[str] = collections.deque(maxlen=30)
_last_level = 0


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]  # ctypes has none
def _log(level: int, text: bytes, _: Any) -> None:
    # Everything but errors is noise here; errors are kept for messages and go to the worker's log.
    global _last_level
    level = _last_level if level == _CONTINUED else level
    _last_level = level
    if level == _ERROR:
        line = text.decode("utf-8", "replace").rstrip()
        _error_lines.append(line)
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the log of the worker


def quiet() -> None:
    """Keep llama.cpp from printing; called again after anything that installs its own logger."""
    llama_cpp.llama_log_set(_log, ctypes.c_void_p(0))


def build() -> str:
    """Library and version, for the record of a run."""
    return f"llama.cpp (llama-cpp-python {importlib.metadata.version('llama-cpp-python')})"


def physical_cores() -> int:
    """Cores this process may use, hyper-threads not counted: more threads than that slow a model down."""
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, min(physical, len(affinity(0))) if affinity else physical)


class NativeModel:
    """Weights and vocabulary. Free with `close`; not thread-safe.

    `rearranged` allows the kernels that need weights in another order than the file's (AMX, repacking); they crash
    on some machines, see `engine.models.tuning`.
    """

    def __init__(
        self, path: str, progress: Callable[[float], None] | None = None, rearranged: bool = True
    ) -> None:
        check_file(Path(path))
        quiet()
        llama_cpp.llama_backend_init()
        self.gpu = bool(llama_cpp.llama_supports_gpu_offload())
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = -1 if self.gpu else 0
        parameters.use_extra_bufts = rearranged

        @llama_cpp.llama_progress_callback  # type: ignore[untyped-decorator, unused-ignore]  # ctypes
        def heard(share: float, _: Any) -> bool:
            if progress is not None:
                progress(share)
            return True

        parameters.progress_callback = heard
        _error_lines.clear()
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self._model and self.gpu:
            # Most often too little memory on the device; slow is better than not at all.
            self.gpu = False
            parameters.n_gpu_layers = 0
            self._model = llama_cpp.llama_model_load_from_file(path.encode(), parameters)
        if not self._model:
            raise ModelError(
                f"{Path(path).name} cannot be loaded: it is damaged, incomplete or of a kind not known here.",
                "Download it again, or choose another model.",
                "\n".join(_error_lines),
            )
        if not llama_cpp.llama_model_has_decoder(self._model) or llama_cpp.llama_model_has_encoder(self._model):
            self.close()
            raise ModelError(f"{Path(path).name} is not a model that writes text.", "Choose a chat model.")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.n_vocab = int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))
        self.n_ctx_train = int(llama_cpp.llama_model_n_ctx_train(self._model))
        # A model with one state instead of a cache of tokens cannot compute a branch with what it branches from.
        self.branches_at_once = not (
            llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        )

    def close(self) -> None:
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    @property
    def handle(self) -> Any:
        return self._model

    def chat_template(self) -> str | None:
        raw = llama_cpp.llama_model_chat_template(self._model, None)
        return raw.decode("utf-8", "replace") if raw else None

    def tokens(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text, nothing added. With `special` the names of control tokens become those tokens;
        without, they are plain characters, so that a row can never steer the model."""
        raw = text.encode("utf-8", "replace")
        room = len(raw) + 16
        buffer = (llama_cpp.llama_token * room)()
        count = int(llama_cpp.llama_tokenize(self.vocabulary, raw, len(raw), buffer, room, False, special))
        if count < 0:
            raise ModelError("A text cannot be turned into tokens.", "Is the model file complete?")
        return list(buffer[:count])

    def text(self, tokens: Sequence[int]) -> str:
        """The text that tokens write, control tokens left out."""
        raw = bytearray()
        for token in tokens:
            buffer = ctypes.create_string_buffer(256)
            size = int(llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, False))
            raw += buffer.raw[: max(size, 0)]
        return raw.decode("utf-8", "replace")

    def ends(self, token: int) -> bool:
        """Whether this token closes an answer."""
        return bool(llama_cpp.llama_vocab_is_eog(self.vocabulary, token))

    def text_of(self, token: int) -> str:
        """A token as the vocabulary writes it, "" where there is none (as for a missing BOS)."""
        if token < 0:
            return ""
        raw = llama_cpp.llama_vocab_get_text(self.vocabulary, token)
        return raw.decode("utf-8", "replace") if raw else ""

    @property
    def bos(self) -> int:
        return int(llama_cpp.llama_vocab_bos(self.vocabulary))

    @property
    def adds_bos(self) -> bool:
        return bool(llama_cpp.llama_vocab_get_add_bos(self.vocabulary))

    @property
    def eos(self) -> int:
        return int(llama_cpp.llama_vocab_eos(self.vocabulary))

    @property
    def end_of_turn(self) -> int:
        eot = int(llama_cpp.llama_vocab_eot(self.vocabulary))
        return eot if eot >= 0 else self.eos


class NoRoom(Exception):
    """The cache has no place for this batch; nothing was changed by the attempt."""


class NativeContext:
    """A unified key-value cache of `n_ctx` tokens shared by up to `MAX_SEQUENCES` sequences."""

    def __init__(self, model: NativeModel, n_ctx: int, n_batch: int, threads: int) -> None:
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = n_ctx
        # llama.cpp aborts the process when a batch cannot hold one token of every sequence.
        parameters.n_batch = parameters.n_ubatch = max(n_batch, MAX_SEQUENCES)
        parameters.n_seq_max = MAX_SEQUENCES
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = True
        parameters.no_perf = True
        self._context = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not self._context:
            raise ModelError(
                "There is not enough memory for the model to work in.",
                "Close other programs or choose a smaller model.",
                "\n".join(_error_lines),
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self.n_ctx = int(llama_cpp.llama_n_ctx(self._context))
        self.n_batch = int(llama_cpp.llama_n_batch(self._context))
        self._n_vocab = model.n_vocab
        self._arrange()

    def _arrange(self) -> None:
        """One batch whose arrays are NumPy's: filled by slices instead of element by element."""
        n = self.n_batch
        self._token, self._pos, self._count = (np.zeros(n, dtype=np.int32) for _ in range(3))
        self._pointers, self._wanted = np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.int8)
        self._sets = np.zeros(n + _SHARED_SEQUENCES, dtype=np.int32)
        self._batch = llama_cpp.llama_batch()
        for name, array, kind in (
            ("token", self._token, ctypes.c_int32),
            ("pos", self._pos, ctypes.c_int32),
            ("n_seq_id", self._count, ctypes.c_int32),
            ("seq_id", self._pointers, ctypes.POINTER(ctypes.c_int32)),
            ("logits", self._wanted, ctypes.c_int8),
        ):
            setattr(self._batch, name, ctypes.cast(array.ctypes.data, ctypes.POINTER(kind)))

    def close(self) -> None:
        if self._context:
            llama_cpp.llama_free(self._context)
            self._context = None

    def decode(self, pieces: Sequence[Piece]) -> list[int]:
        """Run the model over pieces (sequences, first position, tokens, whether the logits after it are wanted).

        A piece of several sequences is computed once for all of them, and later pieces of the same call may
        continue one of them. Returns the place of each wanted piece's logits, in order. Raises NoRoom when the
        cache is full (nothing changed) and ModelError when the computation failed. At most `n_batch` tokens.
        """
        n, used, places = 0, 0, []
        base = self._sets.ctypes.data
        self._wanted[:] = 0
        for sequences, position, tokens, wanted in pieces:
            ids = (sequences,) if isinstance(sequences, int) else sequences
            end, filled = n + len(tokens), used + len(ids)
            self._token[n:end] = tokens
            self._pos[n:end] = _COUNTING[: end - n] + position
            self._sets[used:filled] = ids
            self._count[n:end] = len(ids)
            self._pointers[n:end] = base + 4 * used
            if wanted:
                self._wanted[end - 1] = 1
                places.append(end - 1)
            n, used = end, filled
        self._batch.n_tokens = n
        code = int(llama_cpp.llama_decode(self._context, self._batch))
        if code == 1:
            raise NoRoom
        if code != 0:
            raise ModelError(
                "The model failed while computing.", "Try again.", "\n".join([f"code {code}", *_error_lines])
            )
        return places

    def logits(self, place: int, tokens: Ints) -> npt.NDArray[np.float64]:
        """Logits of a few candidate tokens at a place `decode` returned; valid until the next decode."""
        return self._logits(place)[tokens].astype(np.float64)

    def likeliest(self, place: int) -> int:
        """The token that comes most likely next at a place `decode` returned; valid until the next decode."""
        return int(self._logits(place).argmax())

    def _logits(self, place: int) -> npt.NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, place)
        return np.ctypeslib.as_array(pointer, (self._n_vocab,))

    def fork(self, source: int, target: int) -> None:
        """Let `target` continue where `source` stands. Cells are shared, not copied."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def forget(self, sequence: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self._memory, False)

    def save(self, sequence: int) -> bytes:
        """A sequence's cache as bytes, b"" where this kind of model cannot."""
        size = int(llama_cpp.llama_state_seq_get_size(self._context, sequence))
        buffer = (ctypes.c_uint8 * size)()
        written = int(llama_cpp.llama_state_seq_get_data(self._context, buffer, size, sequence))
        return bytes(buffer)[:written]

    def restore(self, sequence: int, state: bytes) -> bool:
        """Put saved bytes back; False when they do not fit, then the sequence is empty."""
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        done = int(llama_cpp.llama_state_seq_set_data(self._context, buffer, len(state), sequence))
        if done == 0:
            self.forget(sequence)
        return done != 0
