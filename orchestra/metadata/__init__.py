"""Runs, tasks, operations and assets of a workspace as a source."""
