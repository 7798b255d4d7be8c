"""`python -m fraud_pipeline` is the command `fraud-pipeline`."""

import sys

from fraud_pipeline.cli import main

if __name__ == "__main__":
    sys.exit(main())
