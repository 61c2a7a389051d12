"""``python -m connectors.testing.fidelity FILE [--check]`` writes the page, or compares it."""

import sys

from connectors.testing.fidelity.page import main

sys.exit(main(sys.argv[1:]))
