"""Orchestra as a platform; implements ``runner.platform.Platform``."""

from orchestra.linked import linked_options
from orchestra.outputs import set_outputs
from orchestra.task import begin, end, listens

__all__ = ["begin", "end", "linked_options", "listens", "set_outputs"]
