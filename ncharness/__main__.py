"""`python -m ncharness` is the command `ncharness`."""

import sys

from ncharness.cli.main import main

sys.exit(main())
