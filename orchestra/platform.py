"""Orchestra as a platform; implements ``runner.platform.Platform``."""

from orchestra.linked import linked_options
from orchestra.outputs import set_outputs

__all__ = ["linked_options", "set_outputs"]
