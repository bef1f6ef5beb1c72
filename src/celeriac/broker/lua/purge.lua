#!lua flags=allow-oom
-- Deletes waiting messages. ARGV: what ('h', 'n', 'l', 'i': ready ones of that stream, 'delayed',
-- 'dead'), limit, then for 'dead' entry ids. Leased messages are never touched. Returns how many went.
local what, limit, gone = ARGV[1], tonumber(ARGV[2]), 0
if what == 'dead' then
  for at = 3, #ARGV do gone = gone + redis.call('XDEL', DEAD, ARGV[at]) end
elseif what == 'delayed' then
  for _, member in ipairs(redis.call('ZRANGE', DELAYED, 0, limit - 1)) do
    redis.call('ZREM', DELAYED, member)
    redis.call('HDEL', BODIES, member)
    gone = gone + 1
  end
else
  local key, last = STREAM[what], '0-0'
  local info = redis.call('XINFO', 'GROUPS', key)[1]
  for n = 1, #info, 2 do
    if info[n] == 'last-delivered-id' then last = info[n + 1] end
  end
  for _, entry in ipairs(redis.call('XRANGE', key, '(' .. last, '+', 'COUNT', limit)) do
    gone = gone + redis.call('XDEL', key, entry[1])
  end
end
count('purged', gone)
return gone
