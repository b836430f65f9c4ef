"""Builds trainers."""

from __future__ import annotations

import pytest

for name in ("datasets", "transformers", "accelerate.utils"):  # not "accelerate": so is a folder called
    pytest.importorskip(name)

from helpers import toy_trainer as toy  # noqa: E402
from transformers import TrainingArguments  # noqa: E402


@pytest.fixture
def make(tmp_path):
    """Builds trainers; keyword arguments are those of TrainingArguments and a few of Trainer."""

    def build(cls=toy.Recorder, net=None, data=None, folder="out", **settings):
        trainer_keys = (
            "callbacks",
            "data_collator",
            "compute_metrics",
            "compute_loss_func",
            "model_init",
            "optimizers",
        )
        trainer_settings = {key: settings.pop(key) for key in trainer_keys if key in settings}
        if "model_init" not in trainer_settings:
            trainer_settings["model"] = toy.model() if net is None else net
        settings = {**toy.SETTINGS, "per_device_train_batch_size": 8, "num_train_epochs": 3, **settings}
        args = TrainingArguments(output_dir=str(tmp_path / folder), **settings)
        data = toy.hub_dataset() if data is None else data
        return cls(args=args, train_dataset=data, eval_dataset=toy.hub_dataset(20), **trainer_settings)

    return build
