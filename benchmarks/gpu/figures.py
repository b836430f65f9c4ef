"""What a call's records say in numbers: medians, shares and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gpu import records
from gpu.records import Record


@dataclass(frozen=True)
class Timing:
    """The medians of the providers of one task at one size, timed in turns."""

    task: str
    rows: int
    classes: int
    dtype: str
    useful_bytes: int
    ms: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)
    compiled: bool = False

    @property
    def size(self) -> str:
        return f"{self.rows:,} x {self.classes:,} {self.dtype}"

    @property
    def ours(self) -> str:
        """fastprune's provider that the others are compared with: with scores, where there are such."""
        return next((name for name in ("fastprune with el2n", "fastprune") if name in self.ms), "")

    def times(self, provider: str) -> float | None:
        """How many times as long as ours the provider takes."""
        ours = self.ms.get(self.ours)
        theirs = self.ms.get(provider)
        return theirs / ours if ours and theirs else None

    def gb_per_s(self, provider: str) -> float | None:
        ms = self.ms.get(provider)
        return self.useful_bytes / ms / 1e6 if ms else None


def timings(found: Iterable[Record]) -> list[Timing]:
    """Every record of kind "speed"."""
    return [
        Timing(
            r["task"], r["rows"], r["classes"], r["dtype"], r["useful_bytes"], *split(r["ms"]), bool(r.get("compiled"))
        )
        for r in records.of_kind(found, "speed")
    ]


def split(ms: dict[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """(median by provider, error by provider that failed)."""
    good = {name: statistics.median(times) for name, times in ms.items() if isinstance(times, list) and times}
    return good, {name: error for name, error in ms.items() if isinstance(error, str)}


# Of steps with and without fastprune, below which their median says too little.
PAIRS = 200


def copy_bandwidth(found: Iterable[Record]) -> float | None:
    """GB/s of the machine's copy; None in a rehearsal."""
    record = records.last(found, "bandwidth")
    return record["copy_gb_per_s"] if record else None


@dataclass(frozen=True)
class Verdict:
    """One bar and what was measured."""

    what: str
    bar: str
    measured: str
    holds: bool | None  # None: not measured


def _verdict(what: str, bar: str, values: dict[str, float], holds: Any, form: str) -> Verdict:
    """The worst of several values, with its size."""
    if not values:
        return Verdict(what, bar, "not measured", None)
    failing = {name: value for name, value in values.items() if not holds(value)}
    shown = failing or values
    text = ", ".join(f"{form.format(value)} ({name})" for name, value in list(shown.items())[:4])
    return Verdict(what, bar, text, not failing)


def verdicts(found: list[Record]) -> list[Verdict]:
    """The bar of issue 12, each line with what this call measured."""
    all_timings = timings(found)
    eager = [t for t in all_timings if not t.compiled]
    beside = [t for t in all_timings if t.compiled]
    large = [t for t in eager if t.task == "el2n" and t.dtype == "bf16" and t.useful_bytes >= 1e9]
    copy = copy_bandwidth(found)

    def ratios(some: list[Timing], *providers: str) -> dict[str, float]:
        ratio = {t.size: [t.times(p) for p in providers] for t in some}
        return {size: min(x for x in values if x) for size, values in ratio.items() if any(values)}

    rates = {t.size: t.gb_per_s("fastprune") for t in large}
    shares = {size: rate / copy for size, rate in rates.items() if copy and rate}
    compiled = ("compile(textbook)", "compile(lean)")
    el2n = [t for t in beside if t.task == "el2n"]
    loss = [t for t in eager if t.task == "loss step"]
    added = {
        t.size: 100 * (t.ms["fastprune with el2n"] / t.ms["fastprune"] - 1)
        for t in loss
        if "fastprune" in t.ms and "fastprune with el2n" in t.ms
    }
    wide = [t for t in el2n if t.classes >= 32_768]
    narrow = [t for t in el2n if t.classes < 32_768]
    beside_loss = [t for t in beside if t.task == "loss step"]
    lines = [
        _verdict("el2n, bf16, 1 GB and more: of the copy bandwidth", ">= 90 %", shares, lambda x: x >= 0.9, "{:.0%}"),
        _verdict("the same: textbook eager", ">= 10 x", ratios(large, "textbook eager"), lambda x: x >= 10, "{:.1f} x"),
        _verdict(
            "el2n, 32,768 classes and more: faster compiled form",
            ">= 1.3 x",
            ratios(wide, *compiled),
            lambda x: x >= 1.3,
            "{:.2f} x",
        ),
        _verdict("el2n, fewer classes: the same", ">= 1 x", ratios(narrow, *compiled), lambda x: x >= 1, "{:.2f} x"),
        _verdict("scores added to the loss step", "< 2 %", added, lambda x: x < 2, "{:+.1f} %"),
        _verdict("loss step with scores: eager", ">= 1.8 x", ratios(loss, "torch"), lambda x: x >= 1.8, "{:.2f} x"),
        _verdict("the same: compiled", ">= 1 x", ratios(beside_loss, "compile(torch)"), lambda x: x >= 1, "{:.2f} x"),
    ]
    selections = [r for r in records.of_kind(found, "selection") if r["n"] == 10_000_000]
    for other, bar in (("torch.topk", 2), ("torch.topk + sort", 5)):
        ratio = {}
        for r in selections:
            ms, _ = split(r["ms"])
            if "fastprune" in ms and other in ms:
                ratio[f"{r['scores']}, {r['keep']:.0%}"] = ms[other] / ms["fastprune"]
        lines.append(
            _verdict(f"selection, 10^7: {other}", f">= {bar} x", ratio, lambda x, bar=bar: x >= bar, "{:.1f} x")
        )
    return lines + _training(found)


def _training(found: list[Record]) -> list[Verdict]:
    training, waiting = records.last(found, "training"), records.last(found, "waiting")
    what = "what fastprune adds to a MiniLM step"
    lines = [Verdict(what, "<= 2 %, <= 200 us", "not measured", None)]
    if training:
        share = training["added_us"] / 1e3 / training["without_ms"]
        text = (
            f"{training['added_us']:.0f} us, {share:+.1%} of {training['without_ms']:.2f} ms, {training['pairs']} pairs"
        )
        enough = training["pairs"] >= PAIRS
        holds = share <= 0.02 and training["added_us"] <= 200 if enough else None
        lines = [Verdict(what, "<= 2 %, <= 200 us", text, holds)]
    text, none = ("not measured", None) if waiting is None else (waiting["why"] or "none", waiting["none"])
    return [*lines, Verdict("its own calls wait for the device", "never", text, none)]
