#!lua flags=allow-oom
-- Makes due messages ready. ARGV: limit. Returns how many were due.
local refusal = beyond_us(redis.call('HGET', RECORD, 'layout'))
if refusal then return refusal end
return promote(now_ms(), tonumber(ARGV[1]))
