"""One module for each engine. Each runs in that engine's own environment: it imports that engine, what the engine
itself brings, the standard library, and `bench.peers.serving`."""
