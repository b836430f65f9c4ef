"""A rank of ``fastprune finetune``: the command line, under torchrun."""

import sys

from under_torchrun import settle

settle()

from fastprune.cli import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
