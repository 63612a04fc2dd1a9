"""Metrics of neural collapse, effective depth, and the measurement of a network's layers."""
