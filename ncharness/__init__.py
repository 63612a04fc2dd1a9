"""ncharness."""
