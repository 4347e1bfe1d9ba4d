"""What the service needs of others, over SQL, gRPC and HTTP."""
