#!lua flags=allow-oom
-- Deletes waiting messages. ARGV: what ('h', 'n', 'l', 'i': ready ones of that stream, 'delayed',
-- 'dead'), limit, then for 'dead' entry ids. Leased messages are never touched. Returns how many went.
local refusal = beyond_us(redis.call('HGET', RECORD, 'layout'))
if refusal then return refusal end
local what, limit, gone = ARGV[1], tonumber(ARGV[2]), 0
if what == 'dead' then
  if #ARGV > 2 then gone = redis.call('XDEL', DEAD, unpack(ARGV, 3)) end
elseif what == 'delayed' then
  for _, member in ipairs(redis.call('ZRANGE', DELAYED, 0, limit - 1)) do
    redis.call('ZREM', DELAYED, member)
    redis.call('HDEL', BODIES, member)
    gone = gone + 1
  end
else
  local key = STREAM[what]
  for _, entry in ipairs(redis.call('XRANGE', key, '(' .. (last_delivered(key) or '0-0'), '+', 'COUNT', limit)) do
    redis.call('XDEL', key, entry[1])
    if not values_of(entry[2]) then count('accepted', 1) end
    gone = gone + 1
  end
end
count('purged', gone)
return gone
