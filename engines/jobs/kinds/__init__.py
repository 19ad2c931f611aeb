"""What workers can do: one file a kind of job, found by themselves. Heavy imports belong inside `run`."""
