#!lua flags=allow-oom
-- Takes back what a dead consumer held. ARGV: consumer, reason, limit, 'all' or 'some', then (for
-- 'some') the entries that were running, as stream letter .. entry id: only those are charged.
-- Returns {messages put back, 1 when more are left}.
local consumer, reason, limit, everything = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == 'all'
local running = {}
for at = 5, #ARGV do running[ARGV[at]] = true end
local now, back, more = now_ms(), 0, 0
for _, letter in ipairs(LETTERS) do
  local key = STREAM[letter]
  local held = redis.call('XPENDING', key, GROUP, '-', '+', limit, consumer)
  if #held == limit then more = 1 end
  for _, pending in ipairs(held) do
    local v = take(key, pending[1], now)
    if v then
      put_back(v, everything or running[letter .. pending[1]] == true, reason, consumer, now)
      back = back + 1
    end
  end
end
if more == 0 then
  for _, letter in ipairs(LETTERS) do redis.call('XGROUP', 'DELCONSUMER', STREAM[letter], GROUP, consumer) end
  redis.call('ZREM', WORKERS, consumer)
end
return {back, more}
