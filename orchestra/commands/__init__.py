"""Commands of the group ``runner orchestra``; each is a thin room over a module of its own."""
