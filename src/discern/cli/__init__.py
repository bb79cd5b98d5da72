"""The command line: parses, checks what needs no torch, and hands over to the worker."""
