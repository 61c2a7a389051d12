"""Writers behind the port of ``runner.load``, one for each way a destination can be written."""
