"""Exchanges: pure files, bytes in, one reading out; no I/O."""
