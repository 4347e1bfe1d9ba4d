"""What the ranking service's logic meets as ports: the user embedding service, and the reward model in Triton."""
