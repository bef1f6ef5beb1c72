"""How a worker process runs its messages: one by one, in threads, or in child processes."""
