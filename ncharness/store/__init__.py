"""Runs on disk: keys, locks, checkpoints, and the processes that fill the store."""
