"""What all services share: settings, errors, the server, and clients of Triton, Kafka, SQL and other services."""
