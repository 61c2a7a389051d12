"""What arrives of PostgreSQL's types: every type moved for real, and written down in FIDELITY.md."""
