"""What the feedback service's logic meets as ports: groups of the generation service, and records in SQL."""
