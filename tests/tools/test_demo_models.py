"""The committed demo models are what their cards say: whole, small, loadable, and trained."""

import hashlib
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2LMHeadModel

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "server/sluicegate/server/demo/models"
NAMES = ["demo-xs", "demo-s", "demo-m", "demo-l"]
VOCABULARY = 3840
END_OF_TEXT_ID = VOCABULARY - 1

# Benjamin Harrison to Congress, 3 December 1889: public domain, and eleven years older than the oldest
# training text.
UNSEEN = """\
Good will and cordiality have characterized our relations and correspondence with other governments, and \
the year just closed leaves few international questions of importance remaining unadjusted. No obstacle is \
believed to exist that can long postpone the consideration and adjustment of the still pending questions \
upon satisfactory and honorable terms. The dealings of this Government with other states have been and \
should always be marked by frankness and sincerity, our purposes avowed, and our methods free from \
intrigue. This course has borne rich fruit in the past, and it is our duty as a nation to preserve the \
heritage of good repute which a century of right dealing with foreign governments has secured to us.
It is a matter of high significance and no less of congratulation that the first year of the second century \
of our constitutional existence finds as honored guests within our borders the representatives of all the \
independent States of North and South America met together in earnest conference touching the best methods \
of perpetuating and expanding the relations of mutual interest and friendliness existing among them. That \
the opportunity thus afforded for promoting closer international relations and the increased prosperity of \
the States represented will be used for the mutual good of all I can not permit myself to doubt. Our people \
will await with interest and confidence the results to flow from so auspicious a meeting of allied and in \
large part identical interests."""

TEXTS = {
    "empty": "",
    "prose": "It was a truth.\nMr. President,\n\n  fellow citizens:\t1,024 -- so!",
    "emoji": "🤖👩‍👩‍👧‍👦🏴󠁧󠁢󠁳󠁣󠁴󠁿 naïve coöperation Ελλάδα 中文 العربية",
    "controls": "".join(map(chr, range(0x300))),
    "random": "".join(map(chr, random.Random(0).choices([*range(0xD800), *range(0xE000, 0x110000)], k=2000))),
}


def _load(name: str) -> tuple[GPT2LMHeadModel, dict[str, Any]]:
    # What this returns depends on its last argument, which its annotation does not tell.
    loaded: Any = GPT2LMHeadModel.from_pretrained(
        MODELS / name, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    model, loading = loaded
    return model, loading


def _tokenizer(name: str) -> Tokenizer:
    return Tokenizer.from_file(str(MODELS / name / "tokenizer.json"))


def _loss(name: str, ids: list[int]) -> float:
    """Nats per token, the end of text standing before the first."""
    model, _ = _load(name)
    with torch.no_grad():
        return float(model(torch.tensor([ids]), labels=torch.tensor([ids])).loss)


def _evaluation(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MODELS / name / "evaluation.json").read_text("utf-8"))
    return content


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_loads_without_missing_or_unexpected_tensors(name: str) -> None:
    model, loading = _load(name)

    assert not any(loading[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    assert model.config.model_type == "gpt2"
    assert model.config.activation_function == "gelu_new"
    assert model.config.n_embd == 64 * model.config.n_head
    assert (model.config.n_positions, model.config.vocab_size) == (1024, VOCABULARY)
    assert model.config.eos_token_id == model.config.bos_token_id == END_OF_TEXT_ID
    assert model.num_parameters() == _evaluation(name)["shape"]["parameters"]


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_are_finite_bfloat16(name: str) -> None:
    with safe_open(MODELS / name / "model.safetensors", framework="pt") as file:
        tensors = [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118 (not a dict)

    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_weights_have_the_digests_of_the_sums_file() -> None:
    found = {
        f"{name}/model.safetensors": hashlib.sha256((MODELS / name / "model.safetensors").read_bytes()).hexdigest()
        for name in NAMES
    }

    lines = (MODELS / "SHA256SUMS").read_text("ascii").splitlines()
    assert {path: digest for digest, path in (line.split("  ") for line in lines)} == found


def test_all_models_together_stay_small() -> None:
    sizes = [path.stat().st_size for path in MODELS.rglob("*") if path.is_file()]

    assert sum(sizes) <= 15_500_000


def test_models_grow_by_name() -> None:
    parameters = [_evaluation(name)["shape"]["parameters"] for name in NAMES]

    assert parameters == sorted(set(parameters))


def test_all_models_share_one_tokenizer() -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert len({(MODELS / name / file).read_bytes() for name in NAMES}) == 1


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    tokenizer = _tokenizer("demo-xs")

    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_every_byte_is_a_token() -> None:
    tokenizer = _tokenizer("demo-xs")

    single = [token for token in tokenizer.get_vocab() if len(token) == 1]
    assert len(single) == 256
    assert tokenizer.get_vocab_size() == VOCABULARY


def test_end_of_text_is_one_token_and_the_last() -> None:
    assert _tokenizer("demo-xs").encode("<|endoftext|>").ids == [END_OF_TEXT_ID]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_transformers_reads_the_same_tokenizer(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "demo-l", local_files_only=True)

    assert tokenizer(text)["input_ids"] == _tokenizer("demo-l").encode(text).ids
    assert tokenizer.eos_token_id == END_OF_TEXT_ID


def test_a_larger_model_predicts_unseen_text_better() -> None:
    ids = [END_OF_TEXT_ID, *_tokenizer("demo-xs").encode(UNSEEN).ids]

    losses = [_loss(name, ids) for name in NAMES]

    assert losses == sorted(losses, reverse=True)
    # Random weights are at the uniform loss; token frequencies of the training text alone give 6.7.
    assert max(losses) < 5.2 < math.log(VOCABULARY) - 3


@pytest.mark.parametrize("name", NAMES)
def test_late_positions_predict_as_well_as_early_ones(name: str) -> None:
    validation = _evaluation(name)["loss"]["validation"]

    late, early = validation["positions_768_to_1023"], validation["window_256"]
    assert late["nats_per_token"] <= early["nats_per_token"] + 0.1


def test_validation_loss_falls_from_model_to_model() -> None:
    for window in ("window_256", "window_1024"):
        losses = [_evaluation(name)["loss"]["validation"][window]["nats_per_token"] for name in NAMES]
        assert losses == sorted(set(losses), reverse=True)


def test_cards_sums_and_table_repeat_the_evaluations() -> None:
    command = [sys.executable, "-m", "tools.demo_models.card", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
