"""The types of actions: what is done when an event has come."""
