"""The engine: continuous batching over fixed KV slots, in a process of its own. No torch, no grpc."""
