"""The same work through other engines and through ours, in turns: `python -m bench.peers`."""
