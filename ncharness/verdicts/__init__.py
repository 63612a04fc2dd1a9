"""Claims, statistical tests, and the verdicts that they lead to."""
