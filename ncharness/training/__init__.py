"""Training runs: configuration, data sets, networks, and the training loop."""
