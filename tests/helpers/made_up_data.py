"""Made-up utterances of two intents and one slot, and the folders they are read from."""

from __future__ import annotations

import random
from pathlib import Path

CITIES = ("boston", "denver")


def utterances(n: int, seed: int) -> list[tuple[str, str, str]]:
    """(words, tags, intent) of n utterances of two intents and one slot."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        if rng.random() < 0.5:
            words = f"book a flight to {rng.choice(CITIES)}".split() + ["please"] * rng.randrange(3)
            rows.append((words, ["B-city" if w in CITIES else "O" for w in words], "BookFlight"))
        else:
            words = ["play", "some", "jazz"] + ["now"] * rng.randrange(4)
            rows.append((words, ["O", "O", "B-genre"] + ["O"] * (len(words) - 3), "PlayMusic"))
    return [(" ".join(w), " ".join(t), i) for w, t, i in rows]


def write_slotgated(folder: Path, splits: dict[str, list[tuple[str, str, str]]]) -> Path:
    """The SlotGated form: one folder a split with seq.in, seq.out and label."""
    for split, rows in splits.items():
        (folder / split).mkdir(parents=True)
        for name, column in (("seq.in", 0), ("seq.out", 1), ("label", 2)):
            (folder / split / name).write_text("".join(row[column] + "\n" for row in rows))
    return folder
