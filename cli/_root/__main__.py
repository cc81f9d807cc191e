"""``python -m dense2conv``."""

from dense2conv.cli import main

main()
