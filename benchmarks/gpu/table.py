"""What a call prints last: its results in under 10,000 characters, because no more of the output comes back."""

from __future__ import annotations

from collections.abc import Callable

from gpu import figures, records
from gpu.records import Record

LIMIT = 9_900


def head(found: list[Record]) -> list[str]:
    """The machine and what ran on it."""
    call, machine = records.last(found, "call") or {}, records.last(found, "machine") or {}
    bandwidth = records.last(found, "bandwidth") or {}
    versions = machine.get("versions", {})
    some = ", ".join(f"{name} {versions[name]}" for name in ("torch", "triton", "transformers") if versions.get(name))
    line = f"{machine.get('name', 'unknown machine')}; Python {machine.get('python')}, {some}"
    lines = [line, f"commit {call.get('commit')}, kernels {call.get('kernels')}, device {call.get('device')}"]
    if bandwidth.get("copy_gb_per_s"):
        lines.append(
            f"copy {bandwidth['copy_gb_per_s']:.0f} GB/s, read {bandwidth['read_gb_per_s']:.0f} GB/s, "
            f"smallest launch {bandwidth['smallest_launch_ms'] * 1e3:.1f} us"
        )
    return lines


def steps(found: list[Record]) -> list[str]:
    """How each step ended."""
    expected = (records.last(found, "call") or {}).get("expected", {})
    return [
        f"{r['step']:<10}{r['status']:<8}{r['seconds']:6.1f} s (expected {expected.get(r['step'], 0):.0f})  {r['why']}"
        for r in records.of_kind(found, "step")
    ]


def bars(found: list[Record]) -> list[str]:
    """The bar, line by line."""
    words = {True: "holds", False: "MISSED", None: "-"}
    if (records.last(found, "call") or {}).get("device") == "cpu":
        words = dict.fromkeys(words, "toy")  # a rehearsal's times say nothing
    return [f"{words[v.holds]:<7}{v.what} {v.bar}: {v.measured}" for v in figures.verdicts(found)]


def accuracy(found: list[Record]) -> list[str]:
    """How many cases held, and those that did not."""
    cases = records.of_kind(found, "accuracy")
    if not cases:
        return []
    wrong = [r for r in cases if not r["ok"]]
    lines = [f"{len(cases) - len(wrong)} of {len(cases)} cases hold"]
    for r in wrong[:8]:
        why = r.get("error") or {key: r[key] for key in ("scores", "loss", "gradient") if key in r}
        lines.append(f"WRONG {r['case']}: {why}"[:300])
    return lines


def speed(found: list[Record]) -> list[str]:
    """A line for each task and size: ours in ms and as a share of the copy, the others as multiples."""
    return _speed([r for r in found if r.get("step") != "sweeps"], figures.copy_bandwidth(found))


def sweeps(found: list[Record]) -> list[str]:
    """The same for the sizes of the wider sweeps."""
    return _speed([r for r in found if r.get("step") == "sweeps"], figures.copy_bandwidth(found))


def _speed(found: list[Record], copy: float | None) -> list[str]:
    lines = []
    for t in figures.timings(found):
        ours = t.ms.get(t.ours)
        parts = [f"{t.ours} {ours:.4g} ms"] if ours else ["fastprune failed"]
        rate = t.gb_per_s(t.ours)
        if rate:
            parts.append(f"{rate:.0f} GB/s" + (f" = {rate / copy:.0%} of copy" if copy else ""))
        for name in t.ms:
            times = t.times(name)
            if name != t.ours and times:
                parts.append(f"{name} {times:.2f} x")
        parts += [f"{name} failed: {why[:60]}" for name, why in t.failed.items()]
        lines.append(f"{t.task}, {t.size}: " + "; ".join(parts))
    return lines


def selection(found: list[Record]) -> list[str]:
    lines = []
    for r in records.of_kind(found, "selection"):
        ms, failed = figures.split(r["ms"])
        ours = ms.get("fastprune")
        others = [f"{name} {t / ours:.2f} x" for name, t in ms.items() if name != "fastprune" and ours]
        right = "" if r["right"] else " WRONG"
        shown = f"{ours:.4g} ms" if ours else f"failed {failed.get('fastprune', '')[:80]}"
        lines.append(f"{r['scores']}, n {r['n']:,}, keep {r['keep']:.0%}: {shown}{right}; " + "; ".join(others))
    return lines


def heads(found: list[Record]) -> list[str]:
    """A line for each task of a language model's head: ours in ms, the others as multiples, and the error."""
    lines = []
    for r in records.of_kind(found, "head"):
        ms, failed = figures.split(r["ms"])
        ours = ms.get("fastprune")
        parts = [f"{ours:.4g} ms" if ours else f"failed {failed.get('fastprune', '')[:80]}"]
        parts += [f"{name} {t / ours:.2f} x" for name, t in ms.items() if name != "fastprune" and ours]
        parts += [f"{name} failed: {why[:60]}" for name, why in failed.items() if name != "fastprune"]
        size = f"{r['rows']:,} x {r['hidden']:,} x {r['classes']:,} {r['dtype']}"
        lines.append(f"{r['task']}, {size}, error {r['error']:.1e}: " + "; ".join(parts))
    return lines


def build(found: list[Record]) -> list[str]:
    """The extension, the compilation, and what was compiled too late."""
    lines = []
    for r in records.of_kind(found, "extension"):
        lines.append(f"extension {r['how']}, {'loads' if r['loads'] else 'DOES NOT LOAD'}, {r['seconds']:.0f} s")
    for r in records.of_kind(found, "compiled"):
        each = ", ".join(f"{step} {s['variants']}" for step, s in r["by_step"].items())
        text = f"{r['variants']} kernel variants ({each}) in {r['wall']:.1f} s, {r['hits']} in the carried cache"
        lines.append(text + (f"; FAILED {len(r['failed'])}: {r['failed'][0][:120]}" if r["failed"] else ""))
    for r in records.of_kind(found, "compiled in a step"):
        if r["kernels"] and r["step"] in ("accuracy", "speed", "training", "selection"):
            lines.append(f"compiled only in {r['step']}: {len(r['kernels'])} ({', '.join(sorted(set(r['kernels'])))})")
    return lines


def inductor(found: list[Record]) -> list[str]:
    """What torch.compile took, and how often its kernels load from each of their pointers."""
    lines = []
    for r in records.of_kind(found, "compiled by torch"):
        loads = "; ".join(f"{kernel} {each}" for kernel, each in r.get("loads", {}).items())
        what = r.get("error") or f"loads {loads.replace('triton_', '') or 'unknown'}"
        lines.append(f"{r['provider']}, {r['size']}: {r['seconds']:.1f} s; {what}"[:160])
    return lines


def others(found: list[Record]) -> list[str]:
    """Tests, counters, notes."""
    lines = []
    for r in records.of_kind(found, "tests"):
        lines.append(f"tests: {r.get('passed')} passed, {r.get('failed')} failed, {r.get('skipped')} skipped")
        lines += [f"  {failure}"[:200] for failure in r.get("failures", [])[:6]]
    for r in records.of_kind(found, "counters"):
        lines.append("counters: " + (r.get("skipped") or ", ".join(f"{k} {v}" for k, v in r["metrics"].items())))
    return lines + [f"note: {r['text']}" for r in records.of_kind(found, "note")]


SECTIONS: tuple[tuple[str, Callable[[list[Record]], list[str]]], ...] = (
    ("the call", head),
    ("steps", steps),
    ("the bar", bars),
    ("accuracy", accuracy),
    ("speed (others as multiples of the first)", speed),
    ("selection", selection),
    ("a head without logits", heads),
    ("build", build),
    ("tests, counters, notes", others),
    ("torch.compile", inductor),
    ("sweeps", sweeps),
)


def of(found: list[Record], limit: int = LIMIT) -> str:
    """All sections, in their order, as far as the limit allows; what is left out is said."""
    lines: list[str] = []
    for title, section in SECTIONS:
        try:
            part = section(found)
        except (KeyError, TypeError, ValueError) as error:  # a torn or older record must not cost the table
            part = [f"cannot be shown: {type(error).__name__} {error}"]
        if part:
            lines += [f"== {title}", *part]
    closing = "... more is in results.jsonl"
    kept: list[str] = []
    used = 0
    for line in lines:
        if used + len(line) + 1 > limit - len(closing):
            return "\n".join([*kept, closing])
        kept.append(line)
        used += len(line) + 1
    return "\n".join(kept)
