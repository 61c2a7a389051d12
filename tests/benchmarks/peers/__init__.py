"""Other programs at the same work; each file is run by the Python of its own environment.

    python FILE dsn schema tables kind place

Tables are separated by commas; kind is ``parquet``, ``csv``, ``duckdb`` or ``postgres``; place is a folder (one file a
table), a database file (the schema is ``raw``) or a dsn.
"""
