"""Methods as text: names, settings as literals, and what the cards show."""

import inspect
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastprune.methods import METHOD_CARDS
from fastprune.methods.ccs import CCS
from fastprune.methods.el2n import el2n
from fastprune.methods.orderdp import OrderDP
from fastprune.methods.seta import SeTa
from fastprune.methods.ucb import UCB
from fastprune.pruning import EMA, DynamicPruner, Mean, get_method, method_names
from fastprune.pruning.method import factory_of
from fastprune.pruning.naming import MethodText, parse_method


@pytest.mark.parametrize(
    "text, method",
    [
        ("orderdp(ratio=0.375)", OrderDP(ratio=0.375)),
        (" seta ( groups = 5 , width=0.9 ) ", SeTa(groups=5, width=0.9)),
        ("ucb(bonus='variance', c=2)", UCB(bonus="variance", c=2)),
        ("ccs(offset=None)", CCS()),
        ("el2n(smoothing='ema:0.5:0', offset=1e-1)", el2n(smoothing=EMA(0.5, 0.0), offset=0.1)),
        ("el2n(smoothing='mean:3')", el2n(smoothing=Mean(3))),
        ("el2n()", el2n()),
        ("el2n", el2n()),
    ],
)
def test_settings_are_said_in_brackets(text, method):
    assert get_method(text) == method


@pytest.mark.parametrize(
    "text, message",
    [
        ("orderdp(rate=0.3)", "method 'orderdp\\(rate=0.3\\)' has no setting 'rate': its settings are ratio"),
        ("repb(rho=0.3)", "has no setting 'rho': it has none"),
        ("orderdp(0.3)", "takes no argument, got '0.3'; say ratio=… by name"),
        ("orderdp(ratio=1.5)", "ratio must be in"),
        ("orderdp(ratio='a')", "method \"orderdp\\(ratio='a'\\)\""),
        ("seta(groups=5, groups=6)", "write method"),
        ("orderdp(ratio=)", "write method"),
        ("orderdp(**{'ratio': 0.3})", "write method"),
        ("orderdp(ratio=__import__('os').getcwd())", "write method"),
        ("orderdp(ratio=1/2)", "write method"),
        ("orderdp(ratio=(lambda: 0.3)())", "write method"),
        ("orderdp(ratio=0.3)(1)", "write method"),
        ("orderdp(ratio=0.3", "unknown"),
        ("el2n(smoothing='median')", "smoothing is latest, ema"),
        ("magic(x=1)", "is unknown; choose one of"),
    ],
)
def test_anything_else_is_one_sentence(text, message):
    with pytest.raises(ValueError, match=message):
        get_method(text)


@given(st.text(alphabet="seta()=,.'\"#\n\\[]{}*0123:_ groupswidth", max_size=40))
def test_no_text_does_more_than_raise_a_value_error(inside):
    try:
        get_method(f"seta({inside})")
    except ValueError:
        pass


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True).filter(lambda name: name.isidentifier()),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    )
)
def test_literals_come_back_as_they_were(settings):
    import keyword

    settings = {name: value for name, value in settings.items() if not keyword.iskeyword(name)}
    text = f"my-method({', '.join(f'{name}={value!r}' for name, value in settings.items())})"
    assert parse_method(text) == MethodText("my-method", (), settings)


def test_the_forms_without_brackets_stay():
    assert parse_method("static:a(b)/c:d.csv") == MethodText("static", ("a(b)/c:d.csv",))
    assert parse_method("el2n-free") == MethodText("el2n-free")


@pytest.mark.parametrize("name", sorted(set(method_names()) - {"static"}))
def test_a_card_shows_every_setting_in_python_and_as_text(name):
    python, text = METHOD_CARDS[name].splitlines()[-2:]
    for setting in inspect.signature(factory_of(name)).parameters:
        assert f"{setting}=" in python and f"{setting}=" in text
    imports, made = python.removeprefix("In Python: ").split("; ")
    names: dict = {}
    exec(imports, names)
    option, spelled = shlex.split(text.removeprefix("On the command line: "))
    assert option == "--method" and get_method(spelled) == eval(made, names) == get_method(name)


@pytest.mark.parametrize("name, warmup", [("rs2", 0), ("orderdp", 0), ("el2n", 1), ("infobatch", 1)])
def test_the_schedule_is_the_methods_own_unless_said(name, warmup):
    def of(**said):
        schedule = DynamicPruner(20, keep_fraction=0.5, method=name, **said).schedule
        return schedule.warmup_epochs, schedule.cycle_epochs

    assert of() == of(warmup_epochs=None, cycle_epochs=None) == (warmup, 1)
    assert of(warmup_epochs=2, cycle_epochs=3) == (2, 3)
    assert of(warmup_epochs=0) == (0, 1)


def test_rs2_reads_half_the_data_in_every_epoch_as_published():
    pruner = DynamicPruner(20, keep_fraction=0.5, method="rs2")
    read = [sorted(pruner.sampler) for _ in pruner.epochs(2)]
    assert [len(epoch) for epoch in read] == [10, 10] and sorted(read[0] + read[1]) == list(range(20))
