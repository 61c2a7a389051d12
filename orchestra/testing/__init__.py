"""What tests of the platform need: Orchestra on the loopback."""

from orchestra.testing.double import OrchestraDouble

__all__ = ["OrchestraDouble"]
