"""Starting workers: the light tower's one way to the compute tower."""
