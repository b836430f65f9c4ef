"""The packaged default data: voice commands for a smart home, with intents and word tags.

They are sampled from the English sentence templates of the ``home-assistant-intents`` package (Apache-2.0), parsed by
``hassil``.  A template's intent is the label.  The words that fill ``{list:slot}`` are tagged B-slot and I-slot, and
all others O.  The result is a function of the installed package and `SEED` alone.

Two rules keep the test split honest.  No utterance occurs in both splits (lower case, one space between words).  A
share of every open value list (rooms, devices, titles ...) and of every intent's templates is used in test only.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any

from fastprune.app.data.build import build
from fastprune.app.data.home_assistant_values import DEVICE_NAMES, OPEN_LISTS, SAME_NAMES
from fastprune.app.data.types import Split, TextData
from fastprune.errors import UsageError

SEED = 20_240
N_TRAIN, N_TEST = 6_000, 1_500
TEST_ONLY_VALUES = 0.2
TEST_ONLY_TEMPLATES = 0.15
# Intents with fewer templates keep them all in train: one template is often the whole intent.
MIN_TEMPLATES_TO_HOLD_OUT = 8
P_OPTIONAL = 0.4
P_PLEASE = 0.12
P_NUMBER_WORDS = 0.3
# Tries per wanted utterance before an intent counts as exhausted.
TRIES = 12

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
# "twenty%" or "two°": a spelled-out number never carries a sign.
_WORD_WITH_SIGN = re.compile(r"[a-z]\s?[%°]")

TextPiece = tuple[str, str | None]  # text, slot name or None
Utterance = tuple[str, tuple[str, ...]]  # utterance, one tag per word


def load_home_assistant() -> TextData:
    """Return about 6,000 train and 1,500 test utterances.

    Raises:
        UsageError: the demo packages are not installed.
    """
    try:
        from hassil.intents import Intents
        from home_assistant_intents import get_intents
    except ImportError as error:
        raise UsageError(
            f"the packaged default data needs {error.name}, which is not installed: "
            "pip install 'fastprune[demo]' or give data a folder, a file or a hub id."
        ) from None
    raw = get_intents("en")
    if not raw or not raw.get("intents"):
        raise UsageError(
            "the installed home-assistant-intents package has no English templates: "
            "pip install 'fastprune[demo]' brings a version that has."
        )
    train, test = generate(Intents.from_dict(raw))
    return build("home-assistant", train, {"test": test})


def generate(intents: Any, n_train: int = N_TRAIN, n_test: int = N_TEST) -> tuple[Split, Split]:
    """Sample (train, test) from parsed hassil ``Intents``.  Small grammars give fewer than asked.

    Every intent gets the same quota.  What small intents cannot fill goes to the larger ones.
    """
    train_pools: dict[str, list[Utterance]] = {}
    test_pools: dict[str, list[Utterance]] = {}
    # One set for all intents: an utterance two intents share would have two right answers.
    taken: set[str] = set()
    # Twice an equal share is room enough to hand down what small intents leave.
    share = 2 / len(intents.intents)
    for name in sorted(intents.intents):
        templates, held_out = _split_templates(_templates(intents.intents[name]), name)
        rng = random.Random(f"{SEED}:{name}")
        train_walk = Walk(intents.slot_lists, intents.expansion_rules, rng, test_values=False)
        test_walk = Walk(intents.slot_lists, intents.expansion_rules, rng, test_values=True)
        everything = _sample(train_walk, templates, round(share * n_train), taken)
        # A closed intent ("what time is it") is exhausted by now: its test part comes from train's.
        fresh = _sample(test_walk, [*templates, *held_out], round(share * n_test), taken)
        wanted = len(everything) * n_test // (n_train + n_test)
        moved = max(0, wanted - len(fresh)) if len(everything) < round(share * n_train) else 0
        test_pools[name] = fresh + everything[:moved]
        train_pools[name] = everything[moved:]
    return _balance(train_pools, n_train, "train"), _balance(test_pools, n_test, "test")


@dataclass(frozen=True)
class Template:
    """One sentence template and the device domains its ``{name}`` may stand for."""

    text: str
    expression: Any
    domains: tuple[str, ...]


def _templates(intent: Any) -> list[Template]:
    """Return all templates of a hassil ``Intent``, sorted, so that the package's own order does not matter."""
    found = [
        Template(sentence.text, sentence.expression, tuple(sorted(block.domains)))
        for block in intent.data
        for sentence in block.sentences
    ]
    return sorted(found, key=lambda template: (template.text, template.domains))


def _split_templates(templates: list[Template], name: str) -> tuple[list[Template], list[Template]]:
    """Return (for both splits, for test only)."""
    if len(templates) < MIN_TEMPLATES_TO_HOLD_OUT:
        return templates, []
    shuffled = random.Random(f"{SEED}:templates:{name}").sample(templates, len(templates))
    n_test = round(TEST_ONLY_TEMPLATES * len(templates))
    return shuffled[n_test:], shuffled[:n_test]


def _sample(walk: Walk, templates: list[Template], n: int, taken: set[str]) -> list[Utterance]:
    """Return up to ``n`` utterances that are not in ``taken``, which grows."""
    found: list[Utterance] = []
    for _ in range(n * TRIES):
        if len(found) == n:
            break
        text, tags = tag_words(walk.utterance(walk.rng.choice(templates)))
        if text and text not in taken and not _WORD_WITH_SIGN.search(text):
            taken.add(text)
            found.append((text, tags))
    return found


def _balance(pools: dict[str, list[Utterance]], n: int, role: str) -> Split:
    """Return at most ``n`` examples in shuffled order, each intent's share as equal as its pool allows."""
    quota = balanced_counts({name: len(pool) for name, pool in pools.items()}, n)
    rows = [(name, *example) for name in sorted(pools) for example in pools[name][: quota[name]]]
    random.Random(f"{SEED}:{role}").shuffle(rows)
    return Split([text for _, text, _ in rows], [name for name, _, _ in rows], [list(t) for _, _, t in rows])


def balanced_counts(sizes: dict[str, int], n: int) -> dict[str, int]:
    """Return shares of ``n`` that are equal, except that nobody gets more than its size.

    They add up to the smaller of n and all sizes.

    >>> balanced_counts({"a": 1, "b": 9, "c": 9}, 9)
    {'a': 1, 'b': 4, 'c': 4}
    """
    result: dict[str, int] = {}
    left = n
    for place, name in enumerate(sorted(sizes, key=lambda key: (sizes[key], key))):
        result[name] = min(sizes[name], left // (len(sizes) - place))
        left -= result[name]
    return result


def tag_words(pieces: list[TextPiece]) -> Utterance:
    """Join pieces to one lower-case utterance.  A word is tagged by the first slot that reaches into it.

    >>> tag_words([("set ", None), ("desk lamp", "name"), (" to ", None), ("20", "brightness"), ("%", None)])
    ('set desk lamp to 20%', ('O', 'B-name', 'I-name', 'O', 'B-brightness'))
    """
    text = "".join(piece for piece, _ in pieces).lower()
    owner = [number for number, (piece, slot) in enumerate(pieces) for _ in piece.lower()]
    words: list[str] = []
    tags: list[str] = []
    last_piece = -1
    for match in re.finditer(r"\S+", text):
        owners = [owner[i] for i in range(match.start(), match.end()) if pieces[owner[i]][1] is not None]
        words.append(match.group())
        if not owners:
            tags.append("O")
            continue
        # The same piece as the word before continues the value.  Another piece starts a new one.
        tags.append(f"{'I' if owners[0] == last_piece else 'B'}-{pieces[owners[0]][1]}")
        last_piece = owners[0]
    return " ".join(words), tuple(tags)


def number_words(n: int) -> str:
    """Return the English words of 0 to 99.

    >>> number_words(25)
    'twenty five'
    """
    if n < 20:
        return _SMALL[n]
    return _TENS[n // 10] + (f" {_SMALL[n % 10]}" if n % 10 else "")


class Walk:
    """Random walks through hassil's parsed expressions, each giving the pieces of one utterance.

    Args:
        slot_lists: values by the name of their list.
        rules: expressions by the name of their rule.
        rng: what draws.
        test_values: draw from all values.  Otherwise the test-only share of every open list stays unused.
    """

    def __init__(self, slot_lists: dict[str, Any], rules: dict[str, Any], rng: random.Random, test_values: bool):
        from hassil import expression as kinds

        self.kinds = kinds
        self.slot_lists = slot_lists
        self.rules = rules
        self.rng = rng
        self.test_values = test_values

    def utterance(self, template: Template) -> list[TextPiece]:
        """Return the pieces of one utterance of ``template``."""
        pieces = self._walk(template.expression, template.domains)
        if self.rng.random() < P_PLEASE:
            pieces = [("please ", None), *pieces] if self.rng.random() < 0.5 else [*pieces, (" please", None)]
        return pieces

    def _walk(self, expression: Any, domains: tuple[str, ...]) -> list[TextPiece]:
        kinds = self.kinds
        if isinstance(expression, kinds.TextChunk):
            return [(expression.original_text, None)]
        if isinstance(expression, kinds.ListReference):
            return [(self._value(expression, domains), expression.slot_name)]
        if isinstance(expression, kinds.RuleReference):
            return self._walk(self.rules[expression.rule_name].expression, domains)
        if isinstance(expression, kinds.Alternative):
            return self._walk(self._choose(expression), domains)
        items = list(expression.items)
        if isinstance(expression, kinds.Permutation):
            self.rng.shuffle(items)
        return [piece for item in items for piece in self._walk(item, domains)]

    def _choose(self, alternative: Any) -> Any:
        # hassil writes [x|y] as the alternative of x, y and, last, the empty text.
        if not alternative.is_optional:
            return self.rng.choice(alternative.items)
        if self.rng.random() < P_OPTIONAL:
            return self.rng.choice(alternative.items[:-1])
        return alternative.items[-1]

    def _value(self, reference: Any, domains: tuple[str, ...]) -> str:
        name = reference.list_name
        if name == "name":
            known = [table for d in domains if (table := SAME_NAMES.get(d, d)) in DEVICE_NAMES]
            domain = self.rng.choice(known or sorted(DEVICE_NAMES))
            return self._open(f"name:{domain}", DEVICE_NAMES[domain])
        if name in OPEN_LISTS:
            return self._open(name, OPEN_LISTS[name])
        slot_list: Any = self.slot_lists.get(name)
        if hasattr(slot_list, "values"):
            value = self.rng.choice(slot_list.values)
            return "".join(text for text, _ in self._walk(value.text_in, domains)).strip()
        if hasattr(slot_list, "start"):
            return self._number(slot_list)
        raise UsageError(
            f"home-assistant-intents has a list {{{name}}} that this version of fastprune has no values for: "
            "pip install 'fastprune[demo]' brings the version it knows."
        )

    def _open(self, name: str, values: list[str]) -> str:
        if not self.test_values:
            shuffled = random.Random(f"{SEED}:values:{name}").sample(values, len(values))
            values = shuffled[round(TEST_ONLY_VALUES * len(values)) :]
        return self.rng.choice(values)

    def _number(self, slot_list: Any) -> str:
        number = self.rng.randrange(slot_list.start, slot_list.stop + 1, slot_list.step)
        if number < 100 and self.rng.random() < P_NUMBER_WORDS:
            return number_words(number)
        if slot_list.fraction_type is not None and self.rng.random() < 0.1:
            return f"{number}.5"
        return str(number)
