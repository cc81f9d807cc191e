"""For all tests: they run the same on a developer's machine and inside a workflow."""

import os

os.environ.pop("GITHUB_ACTIONS", None)  # what stderr says would be annotated there
