from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from templates import TEMPLATES, from_template, unlike

from sluicegate.server.signals.sketches.campaigns import TEMPLATE_BITS
from sluicegate.server.signals.sketches.fingerprints import Fingerprints
from sluicegate.server.signals.sketches.recent import NEAR_BITS

PRINTS = Fingerprints(b"s" * 32)


def distance(one: str, other: str) -> int:
    first, second = PRINTS.of_text(one), PRINTS.of_text(other)
    assert first is not None
    assert second is not None
    return (first ^ second).bit_count()


@pytest.mark.parametrize("template", TEMPLATES)
def test_prompts_of_one_template_are_within_its_radius(template: str) -> None:
    texts = [from_template(template, seed) for seed in range(40)]

    distances = [distance(texts[0], text) for text in texts[1:]]

    assert max(distances) <= TEMPLATE_BITS


def test_prompts_of_different_templates_and_unlike_prompts_are_far_from_each_other() -> None:
    texts = [from_template(template, 1) for template in TEMPLATES] + [unlike(seed) for seed in range(60)]
    texts += [unlike(seed, words=5) for seed in range(60, 120)]

    nearest = min(distance(one, other) for place, one in enumerate(texts) for other in texts[:place])

    assert nearest > TEMPLATE_BITS


def test_another_case_white_space_and_numbers_make_a_near_duplicate() -> None:
    assert distance("Your order 17 has  been shipped to us.", "YOUR ORDER 4,711 HAS BEEN SHIPPED\nTO US") <= NEAR_BITS


def test_scripts_without_spaces_are_told_apart_by_their_characters() -> None:
    text = "请写一封关于银行账户安全的电子邮件给客户并要求他们确认身份"

    assert distance(text, text + "谢谢") <= TEMPLATE_BITS
    assert distance(text, "今天天气很好我们去公园散步然后在河边的小餐馆吃午饭") > TEMPLATE_BITS


@pytest.mark.parametrize("text", ["", " ", "?!", "hello", "hello there", "\ud800"])
def test_text_of_few_words_has_no_fingerprint(text: str) -> None:
    assert PRINTS.of_text(text) is None


def test_another_salt_gives_other_fingerprints() -> None:
    text, others = unlike(1), Fingerprints(b"t" * 32)

    same_bits = 64 - ((PRINTS.of_text(text) or 0) ^ (others.of_text(text) or 0)).bit_count()

    assert same_bits < 56
    assert PRINTS.exact(text) != others.exact(text)
    assert PRINTS.of_token(b"t") != others.of_token(b"t")
    assert PRINTS.of_network(b"n") != others.of_network(b"n")


def test_fingerprint_is_the_same_in_every_process_and_release() -> None:
    assert PRINTS.of_text("The quick brown fox jumps over the lazy dog.") == 0x6B34D9832471A618
    assert PRINTS.exact("The quick brown fox") == 0xCAAB1B9DFEF6D139


def test_token_of_the_same_bytes_as_a_text_has_another_hash() -> None:
    assert PRINTS.of_token(b"one two") != PRINTS.exact("one two")


def test_short_salt_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Fingerprints(b"s" * 31)


@given(st.text(max_size=400))
def test_any_text_has_one_fingerprint_of_64_bits_or_none(text: str) -> None:
    fingerprint = PRINTS.of_text(text)

    assert fingerprint is None or 0 <= fingerprint < 2**64
    assert fingerprint == PRINTS.of_text(text)
    assert 0 <= PRINTS.exact(text) < 2**64
