#!lua
-- Accepts one message that has neither delay, expiry nor dedup key: publish.lua in half the server's time.
-- It stands alone, since defining what common.lua has costs more than what is done here.
-- ARGV: priority letter, id, task, head, body. Returns 1, or 0 when it must go through publish.lua.
local p, i, t, h, b = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local stream = p == 'n' and KEYS[2] or p == 'h' and KEYS[1] or KEYS[3]
local counters, record, wake = KEYS[8], KEYS[9], KEYS[11]
-- Anything unusual is left to publish.lua, before a thing is written.
if #i > 255 or #t > 255 then return 0 end
local limits = redis.call('HMGET', record, 'maxMessages', 'maxMessageBytes', 'layout')
if limits[3] and tonumber(limits[3]) ~= LAYOUT then return 0 end
local most, bytes = tonumber(limits[1] or 0) or 0, tonumber(limits[2] or 0) or 0
if bytes > 0 and #h + #b > bytes then return 0 end
if most > 0 then
  local waiting = redis.call('ZCARD', KEYS[5])
  for n = 1, 4 do waiting = waiting + redis.call('XLEN', KEYS[n]) end
  if waiting >= most then return 0 end
end
local tokens = redis.pcall('LLEN', wake)
if type(tokens) ~= 'number' then return 0 end
if type(redis.pcall('HINCRBY', counters, 'accepted', 1)) ~= 'number' then return 0 end
local now = redis.call('TIME')
local q, a, d, l, x, y = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000)), '0', '0', '0', '0', ''
local added = redis.pcall('XADD', stream, '*', FIELD_PAIRS)
if type(added) == 'table' then
  redis.call('HINCRBY', counters, 'accepted', -1)
  return 0
end
if tokens < WAKE_TOKENS then redis.call('LPUSH', wake, '1') end
return 1
