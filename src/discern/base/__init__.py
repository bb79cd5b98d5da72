"""The ground under everything: errors, files, names, seeds. No torch, no discern imports above."""
