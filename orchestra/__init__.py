"""The platform: what Orchestra needs, and everything that a team edits."""
