"""Loads on a server of any place, and what they come to: who is asked when, the clocks, and bounded figures of both."""
