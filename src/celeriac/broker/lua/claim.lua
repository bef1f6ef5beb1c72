#!lua flags=allow-oom
-- Hands out up to ARGV[2] messages to the consumer ARGV[1], which holds ARGV[3] already.
-- Returns {record version, paused, again, ms to the next delayed message (-1 none), messages, dropped}:
-- a dropped message, with the reason as its last value, is finished, and only to be told about.
local consumer, want, held = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- Isolated messages wait for an idle worker; after this long they stop others from claiming more.
local ISOLATED_PATIENCE_MS = 30000

local record = redis.call(
  'HMGET', RECORD, 'version', 'paused', 'hold', 'order', 'maxMessageBytes', 'layout', 'maxDeliveries')
if not record[4] then return redis.error_reply('NOTDECLARED the queue has no record') end
local refusal = beyond_us(record[6])
if refusal then return refusal end
local version = tonumber(record[1]) or 0
local paused = record[2] == '1' or record[3] == '1'
local now = now_ms()
redis.call('ZADD', WORKERS, int(now), consumer)
-- Whose turn it is, and whether something is cancelled: asked for before anything is handed out.
local turn = tonumber(redis.call('HGET', COUNTERS, 'turn') or 0) or 0
if turn < 0 or turn > 1e9 or turn % 1 ~= 0 then turn = 0 end
local any_cancelled = redis.call('ZCARD', CANCELLED) > 0
promote(now, 128)
if paused or want <= 0 then return {version, paused and 1 or 0, 0, -1, {}, {}} end

local out, dropped, drops, waits = {}, {}, 0, {}

-- Longer than the queue accepts, by more than a retry may have added: no worker gets to see it.
local largest = tonumber(record[5] or 0) or 0
largest = largest > 0 and largest + GROWTH_BYTES or math.huge
local function too_large(v)
  return #v[HEAD] + #v[BODY] > largest
end

local function drop(letter, entry_id, flat, v)
  check_refuge()
  redis.call('XACK', STREAM[letter], GROUP, entry_id)
  redis.call('XDEL', STREAM[letter], entry_id)
  drops = drops + 1
  if not v then return bury_garbage(flat, now) end
  if too_large(v) then
    local text = #v[HEAD] + #v[BODY] .. ' bytes are over limits.maxMessageBytes ' .. record[5]
    remember(v, cjson.encode({reason = 'too_large', message = text, endedMs = now}))
    return make_dead(v, 'too_large')
  end
  local reason = 'expired'
  if not expired(v, now) then
    redis.call('ZREM', CANCELLED, v[ID])
    reason = 'cancelled'
  end
  discard(reason)
  v[FROM], v[ENTRY], v[LAST], v[WHY] = letter, entry_id, '0', reason
  dropped[#dropped + 1] = v
end

local function hand_out(letter, entry)
  local entry_id, flat = entry[1], entry[2]
  local v = values_of(flat)
  if not v or too_large(v) or expired(v, now) or (any_cancelled and redis.call('ZSCORE', CANCELLED, v[ID])) then
    return drop(letter, entry_id, flat, v)
  end
  waits[#waits + 1] = math.max(0, now - entry_ms(entry_id))
  v[FROM], v[ENTRY], v[LAST] = letter, entry_id, spent(v[DELIVERY] + 1, record[7]) and '1' or '0'
  out[#out + 1] = v
end

local broken
local function draw(letter, most)
  local got = redis.pcall('XREADGROUP', 'GROUP', GROUP, consumer, 'COUNT', most, 'STREAMS', STREAM[letter], '>')
  if got and got.err then
    -- Others may be whole: theirs are handed out, and when there are none this is told.
    broken = got
    return 0
  end
  if not got then return 0 end
  local entries = got[1][2]
  for _, entry in ipairs(entries) do hand_out(letter, entry) end
  return #entries
end

local function isolated_waiting_ms()
  if redis.call('XLEN', ISOLATED) == 0 then return -1 end
  local head = redis.call('XRANGE', ISOLATED, '(' .. (last_delivered(ISOLATED) or '0-0'), '+', 'COUNT', 1)
  if #head == 0 then return -1 end
  return now - entry_ms(head[1][1])
end

local drawn_alone = held == 0 and draw('i', 1) > 0
local alone = drawn_alone or held > 0 and isolated_waiting_ms() > ISOLATED_PATIENCE_MS

local left = want
if not alone then
  -- `order` is a cycle of letters: whose turn it is to be served first, claim after claim.
  local order = string.find(record[4], '^[hnl]+$') and record[4] or 'hnl'
  local share = {h = 0, n = 0, l = 0}
  local whole = math.floor(want / #order)
  if whole > 0 then
    for k = 1, #order do
      local letter = string.sub(order, k, k)
      share[letter] = share[letter] + whole
    end
  end
  for k = 0, want - whole * #order - 1 do
    local at = (turn + k) % #order + 1
    local letter = string.sub(order, at, at)
    share[letter] = share[letter] + 1
  end
  local emptied = {}
  local first = string.sub(order, turn % #order + 1, turn % #order + 1)
  local function serve(letter, most)
    if most <= 0 or emptied[letter] then return end
    local got = draw(letter, most)
    left = left - got
    if got < most then emptied[letter] = true end
  end
  serve(first, share[first])
  for _, letter in ipairs({'h', 'n', 'l'}) do
    if letter ~= first then serve(letter, share[letter]) end
  end
  for _, letter in ipairs({'h', 'n', 'l'}) do serve(letter, left) end
  if left < want then
    redis.call('HSET', COUNTERS, 'turn', int((turn + want - left) % (#order * 1000)))
  end
end

-- More may be waiting than one worker took: pass the wake-up on.
if (left == 0 or drawn_alone) and waiting_tokens() == 0 then redis.call('LPUSH', WAKE, '1') end

observe('wait', waits)
if broken and #out == 0 and drops == 0 then return broken end

local next_due = -1
if #out == 0 then
  -- Empty now, atomically: any wake-up left on the list is stale.
  if drops == 0 and not alone then redis.call('DEL', WAKE) end
  local soonest = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
  if #soonest > 0 then next_due = math.min(math.max(0, tonumber(soonest[2]) - now), 86400000) end
end
return {version, 0, #out == 0 and drops > 0 and 1 or 0, next_due, out, dropped}
