"""Static embeddings of texts: the mean of a vector per token, without running any network.

The vectors are those of `wordllama` (l2_supercat, 256 numbers, MIT), read from its package folder; nothing is
downloaded. Its own loader is not used: it sets up the logging of the whole process, and its batches are padded to
the longest text, which takes gigabytes where a single row is long.

Loading takes 0.2 s and 60 MB once per process. Some 30,000 short texts per second on two cores.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from workspace.errors import ModelError
from workspace.ids import content_id

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "wordllama"
SIZE = 256  # numbers per text
MAX_CHARACTERS = 1 << 15  # of a text are read; what it is about has been said by then
DIGEST: str  # content address of the library's version, its weights and its tokenizer; computed when asked for

_TEXTS_AT_ONCE = 512
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"

Vectors = npt.NDArray[np.float32]
_loading = threading.Lock()


class _Model(NamedTuple):
    vectors: Vectors  # [tokens of the vocabulary, SIZE]
    tokenizer: Tokenizer


def embed(texts: Sequence[str]) -> Vectors:
    """Embeddings, float32 [number of texts, 256], each of length one; their dot product is the cosine similarity.

    A text without any token (empty) is all zeros, and so has similarity 0 to everything. Only the first
    `MAX_CHARACTERS` of a text are read. Deterministic. Raises ModelError when the vectors are not installed.
    """
    model = _loaded()
    result = np.zeros((len(texts), SIZE), dtype=np.float32)
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        part = [_encodable(text[:MAX_CHARACTERS]) for text in texts[start : start + _TEXTS_AT_ONCE]]
        encoded = model.tokenizer.encode_batch_fast(part, add_special_tokens=False)
        result[start : start + len(part)] = _sums(model.vectors, [encoding.ids for encoding in encoded])
    lengths = np.linalg.norm(result, axis=1, keepdims=True)
    np.divide(result, lengths, out=result, where=lengths > 0)
    return result


def build() -> str:
    """Library and version, e.g. "wordllama 0.4.0"; only the name where it has none."""
    try:
        return f"{NAME} {version(NAME)}"
    except PackageNotFoundError:
        return NAME


def ready() -> bool:
    """Whether the vectors are installed; does not load them."""
    try:
        _files()
    except ModelError:
        return False
    return True


def _sums(vectors: Vectors, texts: Sequence[Sequence[int]]) -> Vectors:
    """Sums of the token vectors of each text, [texts, SIZE]."""
    from scipy.sparse import csr_array

    ends = np.cumsum([0, *map(len, texts)])
    ids = np.fromiter(itertools.chain.from_iterable(texts), dtype=np.int32, count=int(ends[-1]))
    # How often each token stands in each text, times the vectors: nothing is copied for each token.
    counts = csr_array(
        (np.ones(len(ids), np.float32), np.minimum(ids, len(vectors) - 1), ends), shape=(len(texts), len(vectors))
    )
    sums: Vectors = counts @ vectors
    return sums


def _encodable(text: str) -> str:
    # Half of a surrogate pair, as a cut JSON string may hold, is no text the tokenizer takes.
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _loaded() -> _Model:
    with _loading:
        return _load()


@functools.cache
def _load() -> _Model:
    weights, tokenizer_file = _files()
    try:
        from safetensors import safe_open
        from tokenizers import Tokenizer

        with safe_open(str(weights), framework="np") as stored:
            vectors = stored.get_tensor("embedding.weight").astype(np.float32)
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
    except Exception as error:  # the libraries raise types of their own
        raise ModelError("The text embeddings cannot be read.", _ADVICE, str(error)) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if vectors.ndim != 2 or vectors.shape[1] != SIZE:
        raise ModelError("The text embeddings are of another size than expected.", _ADVICE, str(vectors.shape))
    return _Model(np.ascontiguousarray(vectors), tokenizer)


_ADVICE = f"Install them again: pip install {NAME}"


@functools.cache
def _files() -> tuple[Path, Path]:
    # Found without importing the package, which would change the logging of the process.
    found = importlib.util.find_spec(NAME)
    for folder in (found.submodule_search_locations or ()) if found else ():
        weights, tokenizer = Path(folder, _WEIGHTS), Path(folder, _TOKENIZER)
        if weights.is_file() and tokenizer.is_file():
            return weights, tokenizer
    raise ModelError("The text embeddings are missing.", _ADVICE)


@functools.cache
def _digest() -> str:
    from engine.models.catalog import digest

    return content_id(["embeddings", build(), str(SIZE), *(digest(file) for file in _files())])


def __getattr__(name: str) -> str:
    # The digest reads 18 MB, which only those pay who ask for it.
    if name == "DIGEST":
        return _digest()
    raise AttributeError(name)
