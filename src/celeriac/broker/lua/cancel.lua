#!lua flags=allow-oom
-- Cancels a waiting message. ARGV: id, how long (ms) to remember a message that is not delayed.
-- A delayed one is gone at once; a ready one is discarded when a worker would get it.
local id = ARGV[1]
if redis.call('ZREM', DELAYED, id) == 1 then
  redis.call('HDEL', BODIES, id)
  discard('cancelled')
  return 'cancelled'
end
redis.call('ZADD', CANCELLED, int(now_ms() + tonumber(ARGV[2])), id)
return 'requested'
