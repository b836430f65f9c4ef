"""Builds TRL's trainers for tests."""

from __future__ import annotations

from helpers import tiny_trl as tiny

OF_TRAINER = ("callbacks", "compute_loss_func", "peft_config", "data_collator", "ref_model")


def build(cls, config, folder, net=None, data=None, **settings):
    """A trainer of class ``cls`` with a ``config`` in this folder.  Other settings are those of either."""
    own = {name: settings.pop(name) for name in OF_TRAINER if name in settings}
    args = config(output_dir=str(folder), **{**tiny.SETTINGS, **settings})
    net = tiny.model() if net is None else net
    return cls(net, args=args, train_dataset=data, processing_class=tiny.tokenizer(), **own)
