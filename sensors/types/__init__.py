"""The types of sensors: what can be waited for."""
