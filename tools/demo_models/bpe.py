"""The byte-level BPE tokenizer that all four demo models share, in GPT-2's form."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from tools.demo_models.corpus import Corpus
from tools.demo_models.recipe import END_OF_TEXT, POSITIONS, VOCABULARY


def train(corpus: Corpus) -> Tokenizer:
    """Learn the merges from the training text; all 256 bytes are tokens, so any text can be written.

    As in GPT-2, the end of text is the last id.
    """
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    learner.train_from_iterator(
        corpus.training,
        BpeTrainer(vocab_size=VOCABULARY - 1, initial_alphabet=sorted(ByteLevel.alphabet()), show_progress=False),
    )
    learned = json.loads(learner.to_str())["model"]
    vocabulary = learned["vocab"] | {END_OF_TEXT: VOCABULARY - 1}
    tokenizer = Tokenizer(BPE(vocabulary, [(left, right) for left, right in learned["merges"]]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False)])
    return tokenizer


def encode(tokenizer: Tokenizer, documents: tuple[str, ...]) -> list[int]:
    """All documents as one row of ids, each followed by the end of text."""
    end = VOCABULARY - 1
    return [token for encoding in tokenizer.encode_batch(documents) for token in (*encoding.ids, end)]


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json`, without spaces to keep it small, and the settings `AutoTokenizer` reads."""
    # Through json, because tokenizers writes its own compact form with the vocabulary unsorted.
    content = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(content + "\n", encoding="utf-8")
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": POSITIONS,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
