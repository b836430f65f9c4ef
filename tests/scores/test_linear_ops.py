"""The linear head's loss as operators: torch.compile, fake tensors, and a head that is sharded over processes."""

from __future__ import annotations

import linear_cases
import pytest
import torch
from linear_cases import case

import fastprune

OPS = torch.ops.fastprune
OPTIONS = (["el2n"], -100, 0.1, 3.0, 2.0)


@pytest.mark.parametrize("bias", [False, True])
def test_opcheck(bias: bool) -> None:
    given = case(8, 4, 30, torch.float32, bias=bias)
    inputs = (given.hidden, given.weight, given.bias, given.labels)
    torch.library.opcheck(OPS.linear_rows, (*inputs, *OPTIONS))
    detached = tuple(None if part is None else part.detach() for part in inputs)
    losses, state, _ = OPS.linear_rows(*detached, *OPTIONS)
    torch.library.opcheck(
        OPS.linear_rows_backward, (torch.ones_like(losses), state, *detached, [True, True, bias], *OPTIONS)
    )
    reduced = (*inputs, torch.rand(8), torch.tensor(0.5), [True, True, bias], *OPTIONS)
    torch.library.opcheck(OPS.linear_reduced, reduced)


@pytest.mark.parametrize(
    ("backend", "dtype"), [("aot_eager", torch.float32), ("aot_eager", torch.bfloat16), ("inductor", torch.float32)]
)
def test_compiles_without_a_graph_break(backend: str, dtype: torch.dtype) -> None:
    given = case(24, 6, 90, dtype)

    def step(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        loss, scores = fastprune.linear_cross_entropy(hidden * 2, weight, given.labels, return_scores="el2n")
        return loss, scores, fastprune.linear_score(hidden, weight, given.labels, "loss")

    results = []
    for run in (step, torch.compile(step, fullgraph=True, backend=backend)):
        loss, *scores = run(given.hidden, given.weight)
        results.append([loss, *scores, *torch.autograd.grad(loss, [given.hidden, given.weight])])
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(eager, compiled, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_operators_give_the_bits_of_the_direct_call(reduction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = case(24, 6, 90, torch.float32, bias=True)
    results = []
    for direct in (True, False):
        monkeypatch.setattr("fastprune.scores.ops.direct", lambda *_, direct=direct: direct)
        loss, el2n = fastprune.linear_cross_entropy(
            given.hidden, given.weight, given.labels, bias=given.bias, reduction=reduction, return_scores="el2n"
        )
        results.append([loss, el2n, *torch.autograd.grad(loss.sum(), given.parts())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_torch_func_takes_the_whole_logits() -> None:
    given = case(12, 4, 30, torch.float32)

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return fastprune.linear_cross_entropy(given.hidden.detach(), weight, given.labels)

    found = torch.func.grad(loss)(given.weight.detach())
    (expected,) = torch.autograd.grad(linear_cases.expected_loss(given), given.weight)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
