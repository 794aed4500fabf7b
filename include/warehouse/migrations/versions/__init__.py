"""One script per revision, each after the one before it; a published script never changes."""
