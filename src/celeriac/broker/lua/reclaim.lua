#!lua flags=allow-oom
-- Makes messages with an expired lease ready again, and forgets workers that left.
-- ARGV: lease ms, limit, and 'now', or 'watch' to be careful, or 'look' to reclaim nothing.
-- Returns how many messages were reclaimed.
local refusal = beyond_us(redis.call('HGET', RECORD, 'layout'))
if refusal then return refusal end
local lease, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local now, back, busy = now_ms(), 0, {}
if ARGV[3] ~= 'now' then
  -- A server that stood still finds every lease expired, though its holders live and could not renew. It
  -- shows in a gap between looks, of which there are some in every lease; then holders get a lease's time.
  local seen = redis.call('HMGET', RECORD, 'looked', 'watched')
  local looked, watched = tonumber(seen[1] or 0) or 0, tonumber(seen[2] or 0) or 0
  if now - looked > lease / 2 or now < looked then watched = now end
  redis.call('HSET', RECORD, 'looked', int(now), 'watched', int(watched))
  if ARGV[3] == 'look' or now - watched < lease then return 0 end
end
for _, letter in ipairs(LETTERS) do
  local key = STREAM[letter]
  for _, pending in ipairs(redis.call('XPENDING', key, GROUP, 'IDLE', int(lease), '-', '+', limit)) do
    local v = take(key, pending[1], now)
    if v then
      put_back(v, true, 'lease_expired', pending[2], now)
      back = back + 1
    end
  end
  local summary = redis.call('XPENDING', key, GROUP)
  for _, consumer in ipairs(summary[4] or {}) do busy[consumer[1]] = true end
end
for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', int(now - 10 * lease), 'LIMIT', 0, 100)) do
  if not busy[consumer] then
    for _, letter in ipairs(LETTERS) do redis.call('XGROUP', 'DELCONSUMER', STREAM[letter], GROUP, consumer) end
    redis.call('ZREM', WORKERS, consumer)
  end
end
redis.call('ZREMRANGEBYSCORE', CANCELLED, '-inf', int(now))
return back
