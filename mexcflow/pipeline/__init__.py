"""Verbs, in the order of a frame's way: receive, journal, decode, batch, insert; record wires them."""
