#!lua
-- Accepts messages. ARGV: the base of the queue's keys, the message count, then nine values for each:
-- priority letter, id, task, head, body, delay ms, time to live ms, dedup key, dedup ttl ms.
-- Returns only what was not simply accepted: {index, status, detail}...
local now = now_ms()
local base, total = ARGV[1], tonumber(ARGV[2])
local limits = redis.call('HMGET', RECORD, 'maxMessages', 'maxMessageBytes', 'layout')
local refusal = beyond_us(limits[3])
if refusal then return refusal end
local room, bytes = tonumber(limits[1] or 0) or 0, tonumber(limits[2] or 0) or 0
if room > 0 then
  local waiting = redis.call('ZCARD', DELAYED)
  for _, letter in ipairs(LETTERS) do waiting = waiting + redis.call('XLEN', STREAM[letter]) end
  room = room - waiting
else
  room = math.huge
end

local reserved
local function accept(at)
  reserved = nil
  if #ARGV[at + 1] > NAME_BYTES then return 'refused', 'an id may have ' .. NAME_BYTES .. ' bytes' end
  if #ARGV[at + 2] > NAME_BYTES then return 'refused', "a task's name may have " .. NAME_BYTES .. ' bytes' end
  if bytes > 0 and #ARGV[at + 3] + #ARGV[at + 4] > bytes then
    return 'refused', 'message of ' .. (#ARGV[at + 3] + #ARGV[at + 4]) .. ' bytes is over limits.maxMessageBytes ' .. bytes
  end
  if room <= 0 then return 'refused', 'queue is full: limits.maxMessages ' .. limits[1] end
  if ARGV[at + 7] ~= '' then
    if (tonumber(ARGV[at + 8]) or 0) <= 0 then return 'refused', 'dedup_key without a dedup_ttl_ms' end
    local key = base .. 'dedup:' .. ARGV[at + 7]
    if not redis.call('SET', key, ARGV[at + 1], 'NX', 'PX', ARGV[at + 8]) then
      local first = redis.pcall('GET', key)
      return 'duplicate', type(first) == 'string' and first or ''
    end
    reserved = key
  end
  local delay, ttl = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local p, i, t, h, b = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local q, x, a, d, l, y = int(now), ttl > 0 and int(now + ttl) or '0', '0', '0', '0', ''
  local v = {FIELD_VALUES}
  if delay > 0 then
    make_delayed(v, now + delay, now)
  else
    redis.call('XADD', STREAM[v[P]], '*', unpack(flat_of(v)))
  end
  room = room - 1
  return nil
end

local notes, accepted, duplicates = {}, 0, 0
for n = 0, total - 1 do
  local fine, status, detail = pcall(accept, 3 + 9 * n)
  if not fine then
    if reserved then redis.call('DEL', reserved) end
    local why = type(status) == 'table' and status.err or tostring(status)
    if not string.find(why, 'WRONGTYPE') and not string.find(why, 'exhausted') then error(status) end
    -- A key is not what it should be: this message is refused, and those before it are what they are.
    status, detail = 'refused', 'a key of the queue is damaged, `celeriac doctor` names it: ' .. why
  end
  if status then
    notes[#notes + 1] = {n, status, detail}
    if status == 'duplicate' then duplicates = duplicates + 1 end
  else
    accepted = accepted + 1
  end
end
-- Counted, and so written: WAIT asks who has this connection's last write, and all before it.
count('duplicates', duplicates)
if accepted > 0 then
  count('accepted', accepted)
  wake()
end
return notes
