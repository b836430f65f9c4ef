"""The steps of a call, in the order of their worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One step; its code is `gpu/steps/NAME.py`.

    Args:
        name: of the module, and of the step in every record.
        least: it starts only if this many seconds are left. It needs them for its first results.
        limit: it is killed after this many seconds.
        expected: seconds that it should take on the GPU machine. They are a guess until a run is recorded: 4 s to
            import PyTorch and start CUDA (20 s the first time, from a cold disk), the predicted times of the kernels,
            and what compilation takes here, over 16 cores.
        what: one line for the reader.
    """

    name: str
    least: float
    limit: float
    expected: float
    what: str


STEPS = (
    Step("machine", 8, 60, 25, "machine, versions, copy bandwidth"),
    Step("build", 15, 130, 20, "the extension; all kernel variants of the steps below, in parallel"),
    Step("accuracy", 15, 50, 20, "scores, loss and gradient against fp64, masks included"),
    Step("speed", 20, 90, 30, "el2n, six scores, a loss step; bytes, ms, GB/s; eager peers"),
    Step("training", 18, 60, 25, "a MiniLM step with and without fastprune"),
    Step("selection", 12, 40, 12, "10^7 scores against torch.topk"),
    Step("head", 20, 60, 30, "a head of 131,072 classes without logits: scores and a step, beside the product"),
    Step("peers", 25, 130, 100, "torch.compile and Liger beside fastprune"),
    Step("tests", 30, 150, 90, "the tests marked gpu"),
    Step("sweeps", 20, 90, 30, "more sizes and dtypes"),
    Step("counters", 12, 45, 15, "ncu's reading of the el2n kernel"),
)
# A rehearsal's limits are so many times as long: it has two shared cores, and an interpreter.
REHEARSAL_PATIENCE = 6.0
# Seconds kept at the end for the table.
CLOSING = 6.0


def expected_seconds() -> float:
    """Of the whole call."""
    return sum(step.expected for step in STEPS) + CLOSING


def as_table() -> str:
    """The plan as Markdown."""
    lines = ["| # | step | limit s | expected s | what |", "|--:|---|--:|--:|---|"]
    lines += [f"| {i} | {s.name} | {s.limit:.0f} | {s.expected:.0f} | {s.what} |" for i, s in enumerate(STEPS, start=1)]
    lines.append(f"| | closing | | {CLOSING:.0f} | |")
    lines.append(f"| | all | | {expected_seconds():.0f} | |")
    return "\n".join(lines)
