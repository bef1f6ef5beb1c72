#!lua
-- Accepts one message that has neither delay, expiry nor dedup key: publish.lua in half the server's time.
-- It stands alone, since defining what common.lua has costs more than what is done here.
-- ARGV: priority letter, id, task, head, body. Returns 1, or 0 when it must go through publish.lua.
local letter = ARGV[1]
local stream = letter == 'n' and KEYS[2] or letter == 'h' and KEYS[1] or KEYS[3]
local counters, record, wake = KEYS[8], KEYS[9], KEYS[11]
-- Anything unusual is left to publish.lua, before a thing is written.
if #ARGV[2] > 255 or #ARGV[3] > 255 then return 0 end
local limits = redis.call('HMGET', record, 'maxMessages', 'maxMessageBytes', 'layout')
-- Written for LAYOUT 1 of common.lua: raise it there and here.
if limits[3] and limits[3] ~= '1' then return 0 end
local most, bytes = tonumber(limits[1] or 0) or 0, tonumber(limits[2] or 0) or 0
if bytes > 0 and #ARGV[4] + #ARGV[5] > bytes then return 0 end
if most > 0 then
  local waiting = redis.call('ZCARD', KEYS[5])
  for n = 1, 4 do waiting = waiting + redis.call('XLEN', KEYS[n]) end
  if waiting >= most then return 0 end
end
local tokens = redis.pcall('LLEN', wake)
if type(tokens) ~= 'number' then return 0 end
if type(redis.pcall('HINCRBY', counters, 'accepted', 1)) ~= 'number' then return 0 end
local t = redis.call('TIME')
local now = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
local added = redis.pcall('XADD', stream, '*', 'p', letter, 'i', ARGV[2], 't', ARGV[3], 'q', now, 'a', '0', 'd', '0',
  'l', '0', 'x', '0', 'y', '', 'h', ARGV[4], 'b', ARGV[5])
if type(added) == 'table' then
  redis.call('HINCRBY', counters, 'accepted', -1)
  return 0
end
if tokens < 16 then redis.call('LPUSH', wake, '1') end
return 1
