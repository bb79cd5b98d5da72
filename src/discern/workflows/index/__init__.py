"""The index over images: reduce features, find the nearest, keep them in files."""
