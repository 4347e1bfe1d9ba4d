"""What the user embedding service's logic meets as ports: profiles in SQL, and the user encoder in Triton."""
