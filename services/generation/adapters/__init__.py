"""What the generation service's logic meets as ports: other services over gRPC, SQL, and the object store."""
