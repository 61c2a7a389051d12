"""The verbs of the command line, one a module; results go to standard output, the rest to standard error."""
