"""Databases that are asked a question: a small client for each, and the statements that find what is new."""
