"""Random numbers by counter."""

from __future__ import annotations

import math

import pytest
import torch

from fastprune import _core
from fastprune.selection.draws import gumbel_keys, logarithms, uniforms, uniforms_of


def _one(seed: int, round: int, i: int) -> float:
    out = torch.empty(1, dtype=torch.float64)
    _core.uniforms(seed, round, i, 1, 1, out.data_ptr())
    return float(out)


@pytest.mark.parametrize(
    ("seed", "round", "i", "words"),  # Random123's known answers for philox4x32-10, the first two words
    [
        (0, 0, 0, (0x6627E8D5, 0xE169C58D)),
        (2**64 - 1, 2**64 - 1, 2**64 - 1, (0x408F276D, 0x41C83B0E)),
        (0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88, (0xD16CFE09, 0x94FDCCEB)),
    ],
)
def test_known_answers(seed: int, round: int, i: int, words: tuple[int, int]) -> None:
    bits = words[0] | words[1] << 32
    assert _one(seed, round, i) == ((bits >> 12) + 0.5) * 2**-52


def test_a_draw_depends_on_seed_round_and_example_alone() -> None:
    state = torch.get_rng_state()
    many = uniforms(50_000, 3, 4)
    assert torch.equal(many[:100], uniforms(100, 3, 4))
    assert _one(3, 4, 49_999) == many[-1].item()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(many, uniforms(50_000, 3, 4))
    finally:
        torch.set_num_threads(threads)
    some = torch.randint(50_000, (20_000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniforms_of(some[::2], 3, 4), many[some[::2]])
    assert uniforms_of(torch.tensor([2**63 - 1]), 3, 4).item() == _one(3, 4, 2**63 - 1)
    assert len({uniforms(1, s, r).item() for s in (-1, 0, 1, 2**70 + 5) for r in range(4)}) == 16
    assert torch.equal(torch.get_rng_state(), state)


def test_uniforms_are_uniform_and_unrelated() -> None:
    n = 100_000
    a, b = uniforms(n, 0, 0), uniforms(n, 0, 1)
    assert 0 < a.min() and a.max() < 1
    # Kolmogorov–Smirnov: above 1.95 once in 1,000 draws of anything uniform, and this one is fixed.
    ranks = torch.arange(1, n + 1) / n
    assert ((a.sort().values - ranks).abs().max() * math.sqrt(n)) < 1.95
    for x, y in ((a, b), (a[1:], a[:-1]), (a, uniforms(n, 1, 0))):
        assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 4 / math.sqrt(n)


def test_logarithms() -> None:
    x = torch.rand(20_000, dtype=torch.float64) ** 9 * 1e6
    ends = torch.tensor([5e-324, 1e-310, 2.0**-1022, 1 - 2**-53, 1.0, 1 + 2**-52, 1.7e308], dtype=torch.float64)
    x = torch.cat([x, ends])
    for got, value in zip(logarithms(x).tolist(), x.tolist(), strict=True):
        assert abs(got - math.log(value)) <= 2 * math.ulp(math.log(value))


def test_gumbel_keys() -> None:
    n = 20_000
    weights = torch.linspace(-3, 3, n, dtype=torch.float64)
    keys = gumbel_keys(weights, 5, 6)
    expected = weights - torch.log(-torch.log(uniforms(n, 5, 6)))
    assert torch.allclose(keys, expected, rtol=1e-14, atol=1e-14)
    assert gumbel_keys(torch.tensor([-torch.inf, torch.inf]), 0, 0).tolist() == [-torch.inf, torch.inf]
