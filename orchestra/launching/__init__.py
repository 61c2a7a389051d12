"""Starts of many pipelines, followed to the end."""
