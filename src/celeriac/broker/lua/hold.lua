#!lua flags=allow-oom
-- Pauses (ARGV[1] = '1') or resumes ('0') a queue by hand, beside what its spec says.
redis.call('HSET', RECORD, 'hold', ARGV[1])
wake()
return redis.call('HINCRBY', RECORD, 'version', 1)
