"""`python -m isocenter.services.cli`: the command where no script is on the PATH."""

import sys

from isocenter.services.cli import main

sys.exit(main())
