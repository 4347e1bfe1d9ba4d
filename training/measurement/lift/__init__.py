"""Online lift: what items of one arm get beyond those of the other, store by store."""
