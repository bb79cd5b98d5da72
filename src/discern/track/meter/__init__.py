"""What a run uses of the machine, once a second."""
