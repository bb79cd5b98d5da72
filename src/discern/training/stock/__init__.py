"""The callbacks that come with Discern, one a file; `names` opens them by name."""
