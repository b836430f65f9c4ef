"""Smoothing against pandas and plain means."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from fastprune.pruning import EMA, History, Latest, Mean
from fastprune.pruning.statistics import as_statistic


def feed(smoothing, sequences):
    """A history that has seen ``sequences[i]`` for example i, shorter ones ending earlier."""
    history = History(len(sequences), {"el2n": smoothing})
    for t in range(max(map(len, sequences))):
        index = torch.tensor([i for i, s in enumerate(sequences) if t < len(s)])
        scores = torch.tensor([s[t] for s in sequences if t < len(s)], dtype=torch.float32)
        history.update(index, {"el2n": scores}, epoch=t)
    return history.value("el2n")


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    return [list(rng.random(length)) for length in (1, 2, 3, 7, 40)]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("deviation", [0.0, 1.0, -0.5])
def test_ema_is_pandas_ewm_mean_plus_debiased_deviation(sequences, alpha, deviation):
    expected = []
    for s in sequences:
        ewm = pd.Series(s).ewm(alpha=alpha, adjust=False)
        expected.append(ewm.mean().iloc[-1] + deviation * ewm.std().fillna(0.0).iloc[-1])
    torch.testing.assert_close(
        feed(EMA(alpha, deviation), sequences),
        torch.tensor(expected, dtype=torch.float32),
        rtol=2e-6,
        atol=1e-6,
    )


def test_the_paper_default_weighs_the_newest_with_0_8():
    assert as_statistic("ema") == EMA(deviation=1.0) == EMA(alpha=0.8, deviation=1.0)
    newest_zero = feed(EMA(deviation=0.0), [[1.0, 0.0]])
    assert newest_zero.item() == pytest.approx(0.2, abs=1e-7)


def test_a_deviation_that_nobody_asked_for_is_warned_of():
    with pytest.warns(
        DeprecationWarning, match=r"will be the mean alone; say EMA\(deviation=1.0\) for the sum"
    ) as said:
        assert EMA() == EMA(alpha=0.8, deviation=1.0) and repr(EMA(0.5)) == "EMA(alpha=0.5, deviation=1.0)"
    assert {warning.filename for warning in said} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_statistic("ema")
        as_statistic("ema:0.5:0")
        EMA(deviation=0.0)


def test_latest_is_the_last_score(sequences):
    torch.testing.assert_close(feed(Latest(), sequences), torch.tensor([s[-1] for s in sequences]).float())


@pytest.mark.parametrize("last", [1, 3, 10])
def test_mean_of_the_last_m(sequences, last):
    expected = torch.tensor([np.mean(s[-last:]) for s in sequences]).float()
    torch.testing.assert_close(feed(Mean(last), sequences), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", [lambda: EMA(0.0, 1.0), lambda: EMA(1.5, 1.0), lambda: Mean(0)])
def test_bad_parameters_raise(make):
    with pytest.raises(ValueError, match="must be"):
        make()
