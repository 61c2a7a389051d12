"""The commands of sensors: what ``runner sense`` and ``runner sensors`` do."""
