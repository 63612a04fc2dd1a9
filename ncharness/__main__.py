"""`python -m ncharness` is the command `ncharness`."""

import sys

from ncharness.cli import main

sys.exit(main())
