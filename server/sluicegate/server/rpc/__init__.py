"""The wire: servicers, interceptors, statuses. The only home of grpc on the server's side."""
