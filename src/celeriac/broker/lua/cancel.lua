#!lua flags=allow-oom
-- Cancels a waiting message. ARGV: id, how long (ms) to remember a message that is not delayed.
-- A delayed one is gone at once, with the copies that a publisher made by trying again; a ready one is
-- discarded when a worker would get it.
local id = ARGV[1]
local gone, copies, member = 0, 0, id
local packed = redis.call('HGET', BODIES, member)
while packed do
  local v = unpacked(packed)
  if v and v[ID] == id then
    redis.call('ZREM', DELAYED, member)
    redis.call('HDEL', BODIES, member)
    discard('cancelled')
    gone = gone + 1
  end
  copies = copies + 1
  member = id .. '#' .. copies
  packed = redis.call('HGET', BODIES, member)
end
if gone > 0 then return 'cancelled' end
redis.call('ZADD', CANCELLED, int(now_ms() + tonumber(ARGV[2])), id)
return 'requested'
