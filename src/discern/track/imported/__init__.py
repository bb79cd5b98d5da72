"""Runs that other programs recorded, read into ours."""
