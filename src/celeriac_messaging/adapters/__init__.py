"""Where a job touches the world: small protocols, and one real implementation of each."""
