"""What the options of ``fastprune finetune`` say to a run."""

from fastprune.app.cli import parser
from fastprune.app.cli.finetune import _training, settled


def test_a_comparison_has_one_schedule():
    def of(*more):
        options, _ = settled(parser().parse_args(["finetune", *more]))
        training = _training(options, "classification")
        return training.warmup_epochs, training.cycle_epochs

    assert of() == (None, None) and of("--compare") == (1, 1)
    assert of("--compare", "--keep-fraction", "budget:0.3", "budget:0.5:tokens") == (None, 1), "they read equally many"
    assert of("--compare", "--keep-fraction", "budget:0.3", "0.5") == (1, 1)
    assert of("--compare", "--warmup-epochs", "0") == (0, 1) and of("--cycle-epochs", "3") == (None, 3)
