#!lua flags=allow-oom
-- Makes ready again, free of charge, what was handed out in an answer that never arrived.
-- ARGV: consumer, limit, then for each stream its letter and the newest entry that did arrive.
-- Claims hand out a stream in order, so whatever the consumer holds beyond that entry is unknown to it.
-- Returns how many went back.
local consumer, limit, now, back = ARGV[1], tonumber(ARGV[2]), now_ms(), 0
for at = 3, #ARGV, 2 do
  local key = STREAM[ARGV[at]]
  for _, pending in ipairs(redis.call('XPENDING', key, GROUP, '(' .. ARGV[at + 1], '+', limit, consumer)) do
    local v = take(key, pending[1], now)
    if v then
      put_back(v, false, 'unheard', consumer, now)
      back = back + 1
    end
  end
end
return back
