"""What the watermark has to know of a sequence: the context of its next token, and whether that was there before."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

from sluicegate.server.watermark.scheme import NGRAM, hash_context


class Contexts:
    """One sequence's contexts. They depend on its own tokens and on nothing else; grows with the sequence.

    A context reaches back into the prompt: else whoever asks for a few tokens at a time, each time with what has come
    so far as the prompt, would get text without a mark. Before the prompt stand zeros, as in transformers.

    Where a context comes again the token is drawn without the mark: the same g-values twice would make the text favour
    what it has already said (Dathathri et al. 2024, "repeated context masking"). That counts among contexts of output
    tokens, all of them: the history is bounded by the model's context length.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens = [*([0] * (NGRAM - 1)), *prompt][-(NGRAM - 1) :]
        self._hashes = [hash_context(self._tokens)]  # of each output token, up to the next one

    def put(self, place: int, ids: Sequence[int]) -> None:
        """Take output tokens from `place` on; what was there before, and behind, counts no more."""
        del self._tokens[NGRAM - 1 + place :]
        del self._hashes[place + 1 :]
        for id_ in ids:
            self._tokens.append(id_)
            self._hashes.append(hash_context(self._tokens[-(NGRAM - 1) :]))

    def after(self, ids: Sequence[int]) -> Contexts:
        """The contexts once these tokens have come, too; the original stays as it is."""
        following = copy(self)
        following._tokens = self._tokens.copy()
        following._hashes = self._hashes.copy()
        following.put(len(self._hashes) - 1, ids)
        return following

    @property
    def next(self) -> int | None:
        """The hash of the next token's context; None where that is no new one, and the token gets no mark."""
        *earlier, last = self._hashes
        return None if last in earlier else last
