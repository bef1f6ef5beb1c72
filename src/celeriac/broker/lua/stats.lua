#!lua flags=no-writes
-- Everything that is measured of a queue, in one read.
-- Returns {now ms, counters, record (version, paused, hold, policy), streams {length, leased, oldest
-- ready ms}..., delayed, due, dead, workers with last-seen ms, leased by consumer, histogram bounds in ms}.
local now = now_ms()
local streams, leased = {}, {}
for n, letter in ipairs(LETTERS) do
  local key = STREAM[letter]
  local length, pending, oldest = redis.call('XLEN', key), 0, 0
  if length > 0 then
    local last = last_delivered(key)
    if last then
      local summary = redis.call('XPENDING', key, GROUP)
      pending = summary[1]
      for _, consumer in ipairs(summary[4] or {}) do
        leased[#leased + 1] = consumer[1]
        leased[#leased + 1] = consumer[2]
      end
    end
    if length > pending then
      local head = redis.call('XRANGE', key, '(' .. (last or '0-0'), '+', 'COUNT', 1)
      if #head > 0 then oldest = entry_ms(head[1][1]) end
    end
  end
  streams[n] = {length, pending, oldest}
end
return {
  now, redis.call('HGETALL', COUNTERS), redis.call('HMGET', RECORD, 'version', 'paused', 'hold', 'policy'),
  streams, redis.call('ZCARD', DELAYED), redis.call('ZCOUNT', DELAYED, '-inf', int(now)),
  redis.call('XLEN', DEAD), redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES'), leased,
  BOUNDS,
}
