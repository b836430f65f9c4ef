"""``python -m fastprune`` is the command line."""

import sys

from fastprune.app.cli import main

sys.exit(main())
