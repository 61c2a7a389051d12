"""Real systems for demos and tests: a private PostgreSQL, and a shop to fill it with."""
