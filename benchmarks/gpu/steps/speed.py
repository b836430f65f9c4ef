"""Step 4: milliseconds of el2n, all six scores and a loss step with scores, against eager PyTorch."""

from __future__ import annotations

import providers

from gpu.cases import SPEED, TOY_SPEED
from gpu.step import Context
from gpu.timing import time_providers


def run(context: Context) -> None:
    sizes, rounds = (TOY_SPEED, 1) if context.rehearsal else (SPEED, 11)
    for size in sizes:
        time_providers(context, size, "el2n", providers.el2n_eager(), rounds)
        time_providers(context, size, "loss step", providers.loss_eager(), rounds)
