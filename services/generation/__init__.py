"""The generation service: groups of personalised pictures, streamed while they are made, and kept."""
