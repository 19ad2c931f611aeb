"""Commands of `promptloupe`, one file a subject, found by themselves: each offers `register(cli)`."""
