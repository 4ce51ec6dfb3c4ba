"""Exchanges on localhost that speak the real protocol, with faults on request."""
