"""``python -m openmse.node``."""

import sys

from openmse.node.main import main

sys.exit(main())
