"""`python -m dvmvs_core` is `dvmvs`."""

import sys

from dvmvs_core.cli.main import main

sys.exit(main())
