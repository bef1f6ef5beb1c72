"""What a Redis Cluster gives: queues on one, two and three primaries, and what one queue's limit is.

drive    one process for each queue: publishes, claims, settles      sending   one message at a time
"""
