"""Tasks, a file each: setup, verify, sql."""
