"""What the four demo models are and how each is trained: the only place with numbers to tune."""

from dataclasses import dataclass

POSITIONS = 1024
HEAD_WIDTH = 64
VOCABULARY = 3840
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class Recipe:
    """The shape of one model and its training; the models share data, tokenizer and token budget."""

    name: str
    stands_for: str
    layers: int
    width: int
    peak_learning_rate: float
    dropout: float
    epochs: float = 3.0
    seed: int = 20190214


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("demo-xs", "124M", layers=2, width=64, peak_learning_rate=1e-2, dropout=0.0),
        Recipe("demo-s", "355M", layers=2, width=128, peak_learning_rate=7e-3, dropout=0.0),
        Recipe("demo-m", "774M", layers=3, width=192, peak_learning_rate=5e-3, dropout=0.0),
        Recipe("demo-l", "1558M", layers=3, width=256, peak_learning_rate=4e-3, dropout=0.0),
    )
}
