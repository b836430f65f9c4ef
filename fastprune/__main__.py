"""``python -m fastprune`` is the command line."""

import sys

from fastprune.cli import main

sys.exit(main())
