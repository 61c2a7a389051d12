"""What dbt says of its nodes: in its log while it runs, and in its artifacts."""
