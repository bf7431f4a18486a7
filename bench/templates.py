"""How well fingerprints tell prompts of one template from varied prose: precision and recall of both radii.

    python -m bench.templates --prose DIR       a directory of English text files, as many megabytes as can be had

Ten templates of spam and phishing with three to six slots, filled at random, against passages cut from the texts at
random. bench/README.md has what came of it over a public-domain corpus.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sluicegate.server.signals.sketches import Sketches
from sluicegate.server.signals.sketches.campaigns import TEMPLATE_BITS
from sluicegate.server.signals.sketches.fingerprints import Fingerprints
from sluicegate.server.signals.sketches.recent import NEAR_BITS

SALT = b"s" * 32
NOW = 1_770_000_000.0
HOUR_SECONDS = 3_300
"""Within one window, wherever its parts begin."""
TEMPLATES = (
    "Dear {name}, we noticed unusual sign-in activity on your {company} account from {city} on {date}. For your"
    " security we have limited what you can do until you confirm your details. Please visit {url} within {number}"
    " hours to restore full access. If you do not respond your account will be closed. Thank you, the {company}"
    " security team.",
    "Write a short e-mail to {name} from the payroll department of {company} that says the salary payment of {amount}"
    " could not be made because the bank details are out of date, and asks to enter them again at {url} before {date}.",
    "Hello {name}, your parcel {number} is waiting at our depot in {city}. A small customs fee of {amount} is due"
    " before we can deliver. Pay now at {url} to avoid return to sender.",
    "Congratulations {name}! You have been selected as the winner of {amount} in the {company} customer draw held in"
    " {city}. To claim your prize reply with your full name, address and date of birth, or register at {url} no later"
    " than {date}. This offer is not transferable and expires without further notice.",
    "Subject: Invoice {number} overdue. Dear {name}, according to our records invoice {number} of {date} over"
    " {amount} has not been settled. Kindly transfer the amount today or contact our accounts office at {mail} so that"
    " we can avoid legal steps. Regards, {company}.",
    "Write a product review with five stars for {product} by {company}. Say that it arrived quickly, that the quality"
    " is excellent, that you would recommend it to friends and family, and mention that you live in {city}.",
    "I am {name}, a lawyer in {city}. A client of mine passed away on {date} and left {amount} without an heir. Since"
    " you share his family name I propose that we present you as next of kin and share the money. It is entirely free"
    " of risk. Write to me in confidence at {mail} and I will send you the documents.",
    "Your {company} subscription will renew automatically on {date} for {amount}. If you did not authorise this"
    " charge call our help desk at once or cancel at {url}. Our agents are available around the clock and will refund"
    " you within {number} days. Order number {number}.",
    "Urgent message for {name}: the tax office in {city} has found that you are owed a refund of {amount} for last"
    " year. To receive it you must verify your identity and bank card at {url} by {date}. Failure to do so will"
    " forfeit the refund.",
    "Write a news article in the style of a local paper in {city} claiming that {name} of {company} was arrested on"
    " {date} for taking bribes of {amount}. Quote two neighbours and a police spokesman. Keep it under two hundred"
    " words and do not mention any other source.",
)
FIRST = (
    "Anna",
    "Ben",
    "Carla",
    "David",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jamal",
    "Karen",
    "Luis",
    "Mei",
    "Nadia",
    "Oscar",
    "Priya",
    "Quentin",
    "Rosa",
)
LAST = (
    "Adams",
    "Baker",
    "Chen",
    "Diaz",
    "Evans",
    "Fischer",
    "Garcia",
    "Haddad",
    "Ito",
    "Jones",
    "Kumar",
    "Lopez",
    "Meyer",
    "Nolan",
    "Okafor",
    "Patel",
)
CITIES = (
    "London",
    "New York",
    "Paris",
    "San Francisco",
    "Lagos",
    "Berlin",
    "Kuala Lumpur",
    "Rome",
    "Cape Town",
    "Oslo",
    "Buenos Aires",
)
COMPANIES = (
    "Northbank",
    "Acme Payments",
    "Global Trust Bank",
    "Parcelo",
    "Sunline",
    "First Mutual Savings",
    "StreamBox",
)
PRODUCTS = ("the Aero kettle", "wireless headphones", "the TrailMaster tent", "a standing desk", "running shoes")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.templates", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--prose", type=Path, required=True, help="a directory of text files")
    arguments = parser.parse_args()
    passages = Passages(arguments.prose)
    print_pairs(passages)
    print_campaigns(passages)
    print_prefixes(passages)
    return 0


class Passages:
    """Cuts passages from texts, at random and repeatably."""

    def __init__(self, directory: Path) -> None:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        self._texts = [path.read_text(encoding="utf-8", errors="replace").split() for path in files]

    def cut(self, count: int, least: int, most: int, seed: int) -> list[str]:
        chance = random.Random(seed)  # noqa: S311
        found: list[str] = []
        while len(found) < count:
            words, length = chance.choice(self._texts), chance.randint(least, most)
            if len(words) > length:
                start = chance.randrange(len(words) - length)
                found.append(" ".join(words[start : start + length]))
        return found


def filled(template: str, chance: random.Random) -> str:
    """A template with its slots filled at random; a slot that comes twice is filled once."""
    slots: dict[str, Callable[[], str]] = {
        "name": lambda: chance.choice([chance.choice(FIRST), f"{chance.choice(FIRST)} {chance.choice(LAST)}"]),
        "company": lambda: chance.choice(COMPANIES),
        "city": lambda: chance.choice(CITIES),
        "product": lambda: chance.choice(PRODUCTS),
        "date": lambda: chance.choice(
            [f"{chance.randint(1, 28)} {chance.choice(MONTHS)}", f"{chance.randint(1, 9)}/5"]
        ),
        "url": lambda: f"https://{chance.randint(1, 9_999)}.example/{chance.randint(1, 10**6):x}",
        "mail": lambda: f"{chance.choice(FIRST)}{chance.randint(1, 99)}@mail.example",
        "number": lambda: str(chance.randint(2, 99_999)),
        "amount": lambda: f"${chance.randint(1, 9_999)},{chance.randint(100, 999)}.00",
    }
    values: dict[str, str] = {}
    return re.sub(r"\{(\w+)\}", lambda slot: values.setdefault(slot[1], slots[slot[1]]()), template)


def campaign(template: str, count: int, seed: int) -> list[str]:
    chance = random.Random(seed)  # noqa: S311
    return [filled(template, chance) for _ in range(count)]


def print_pairs(passages: Passages) -> None:
    """Of two prompts of a template, how often are they near; and of two passages?"""
    groups = [campaign(template, 150, 1) for template in TEMPLATES]
    small = [[text.lower() for text in group] for group in groups]
    long, short = passages.cut(4_000, 30, 120, 2), passages.cut(4_000, 5, 12, 3)
    print("share of pairs within           3 bits     8 bits    12 bits    14 bits    15 bits    18 bits")
    for name, sets in {
        "one template": groups,
        "one template, small letters": small,
        "two passages of 30 to 120 words": [long],
        "two passages of 5 to 12 words": [short],
    }.items():
        apart = np.concatenate([distances(each) for each in sets])
        print(
            f"{name:<32}", *(f"{np.mean(apart <= bits):>9.6f} " for bits in (NEAR_BITS, 8, 12, 14, TEMPLATE_BITS, 18))
        )


def distances(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Between the fingerprints of each two texts."""
    of_text = Fingerprints(SALT).of_text
    prints = np.array([found for found in map(of_text, texts) if found is not None], np.uint64)
    apart: NDArray[np.uint8] = np.bitwise_count(prints[:, None] ^ prints)
    return apart[np.triu_indices(len(prints), 1)]


def print_campaigns(passages: Passages) -> None:
    """How many campaigns are found in an hour's prompts, and how many that are none."""
    for count, least, most in ((20_000, 30, 120), (20_000, 5, 12), (3_000, 5, 12)):
        seen, near = hour(passages.cut(count, least, most, 4))
        print(f"{count:,} passages of {least} to {most} words: {seen} campaigns, {near:.2%} near duplicates")
    for size in (60, 120, 500):
        for name, change in (("as written", str), ("small letters", str.lower)):
            found = []
            for number, template in enumerate(TEMPLATES):
                texts = [change(text) for text in campaign(template, size, number)]
                texts += passages.cut(3_000, 5, 120, 100 + number)
                random.Random(number).shuffle(texts)  # noqa: S311
                found.append(hour(texts)[0])
            alone = np.mean([hour([change(text) for text in campaign(each, size, 7)])[1] for each in TEMPLATES])
            print(
                f"{size} of a template among 3,000 passages, {name}: found {sum(map(bool, found))} of {len(TEMPLATES)},"
                f" {sum(found)} campaigns counted; of the template's prompts {alone:.0%} near duplicates"
            )


def print_prefixes(passages: Passages) -> None:
    """What becomes of honest prompts that begin alike: few examples, then the question."""
    tails = passages.cut(200, 15, 25, 5)
    for words in (20, 60, 100, 200, 400, 600):
        (prefix,) = passages.cut(1, words, words, 6)
        seen, near = hour([f"{prefix} {tail}" for tail in tails])
        print(f"{words} words in common before 15 to 25 others: {seen} campaigns, {near:.0%} near duplicates")


def hour(texts: Sequence[str]) -> tuple[int, float]:
    """Campaigns and near duplicates of the texts, were they an hour's prompts."""
    sketches = Sketches(SALT)
    for number, text in enumerate(texts):
        sketches.see_prompt("a", text, NOW + number * HOUR_SECONDS / len(texts))
    figures = sketches.figures(NOW + HOUR_SECONDS)["a"]
    return figures.template_campaigns, figures.prompt_duplicate_ratio


if __name__ == "__main__":
    sys.exit(main())
