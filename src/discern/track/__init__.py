"""What a run leaves behind: its folder, metrics, events, log, lock and environment. No torch."""
