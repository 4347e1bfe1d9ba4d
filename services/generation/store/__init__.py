"""Where groups and pictures are kept: SQL for records, an object store for the pictures' bytes."""
