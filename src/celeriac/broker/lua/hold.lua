#!lua flags=allow-oom
-- Pauses (ARGV[1] = '1') or resumes ('0') a queue by hand, beside what its spec says.
if (redis.call('HGET', RECORD, 'hold') or '0') ~= ARGV[1] then
  redis.call('HSET', RECORD, 'hold', ARGV[1])
  bump_version(now_ms())
  wake()
end
return 1
