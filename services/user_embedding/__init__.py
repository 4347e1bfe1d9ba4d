"""User embedding: profiles, and the vectors that a release's user encoder computes from them."""
