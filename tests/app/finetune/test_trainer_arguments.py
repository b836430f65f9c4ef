"""TrainingArguments of a run, and those that a user sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fastprune.app.finetune.arguments import REFUSED, parse_trainer, training_arguments
from fastprune.app.finetune.spec import RunSpec, Training
from fastprune.errors import UsageError

TRAINING = Training(3, 1, 1, 8, 3e-3, False, "latest", 0.0, 64)
FULL = RunSpec("full", "full", 1.0, 0)


def test_trainer_fields_have_their_types() -> None:
    found = parse_trainer(["weight_decay=0.1", "warmup-steps=5", "report_to=none"])
    assert found["weight_decay"] == 0.1 and found["warmup_steps"] == 5
    assert parse_trainer(["dataloader_drop_last=true"]) == {"dataloader_drop_last": True}
    assert parse_trainer([]) == {}
    for pair, named in (
        ("speed=11", "--trainer speed: TrainingArguments"),
        ("weight_decay=much", "--trainer: argument --weight_decay.* invalid float value"),
        ("weight_decay", "not of the form KEY=VALUE"),
    ):
        with pytest.raises(UsageError, match=named):
            parse_trainer([pair])


@pytest.mark.parametrize("name", ["output_dir", "seed", "num_train_epochs", "save_strategy", "remove_unused_columns"])
def test_fields_that_would_break_a_promise_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"--trainer {name} cannot be set: {REFUSED[name][:10]}"):
        parse_trainer([f"{name}=1"])


def test_what_the_trainer_itself_refuses_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^--trainer: [^\n]*$"):
        training_arguments(TRAINING, FULL, 60, tmp_path, {"lr_scheduler_type": "no such"})


def test_defaults_are_those_of_the_loop_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Older TrainingArguments set it to "bf16", and every Trainer after them would follow it.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    arguments = training_arguments(replace(TRAINING, bf16=True), FULL, 60, tmp_path, {})
    assert arguments.optim == "adamw_torch_fused" and arguments.max_grad_norm == 1.0 and arguments.bf16
    assert arguments.get_warmup_steps(100) == 10 and str(arguments.lr_scheduler_type.value) == "linear"
    assert arguments.n_gpu <= 1
