"""The pipeline that runs a job in production: made from its job file and its lock."""
